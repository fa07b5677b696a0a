"""Policies: what a user writes, and the one decision that follows from it. Pure functions of (view, memory).

Start at `policies.decide`; `policies.schema` is the YAML, `policies.layers` the economics, `policies.stabilize` and
`policies.guard` what keeps it calm and safe. No I/O, clock or randomness in this package.
"""
