"""The four services around the pure pipeline: collector, forecaster, planner, actuator.

Each is a small room that moves data between NATS and one pure or replaceable part; `leased` sees to it that one holder acts per
service and fleet. None decides anything. `controlplane.app` wires them; `controlplane.pipeline` is what they carry.
"""
