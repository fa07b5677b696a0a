"""Worlds to try tidegate in: a simulated cloud behind HTTP, workloads, markets and faults, on a wall or a virtual clock.

It runs the production pipeline and must never be imported by it; nothing here knows a real supplier.
Start with `cloud_model` for how replicas are bought and paid, `cloud` for the same behind HTTP, `invariants` for what must hold.
"""
