"""NATS, as tidegate uses it: the embedded server, streams, ordered folding, snapshots, leases, intents, FastStream handlers.

Owns everything that speaks to NATS; names of subjects, streams and buckets live in `controlplane.contracts.subjects`.
It must not decide anything: state goes into pure functions and their outputs come back. Start with `connect`, then `fold`.
"""
