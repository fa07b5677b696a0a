"""Replicas of a workload on Kubernetes: anything with a `scale` subresource, observed by watch, scaled by server-side apply.

Start at `actuator`, which acts on what `lookout` gathers; `cluster` is what all fleets of one cluster share (one connection, one watch per
kind), `api_server` speaks HTTP. The rest is pure: `pods`, `workloads`, `nodes`, `disruption`, `selectors` read objects, `status` and
`shrink` say what they mean.
"""
