"""The outside world's signals → Observations: Prometheus, engines' own /metrics, DCGM and gateways. No deciding here.

Owns reading, aggregating and judging signals; `api` has the contract, `presets` the metric names, `replicas` the arithmetic that
both ways of reading share. It must not publish: `controlplane.services.collector` does.
"""
