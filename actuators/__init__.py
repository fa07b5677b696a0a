"""Actuators make an offer be what the newest unexpired Decision says: level-triggered, idempotent, never deciding numbers.

Start at `actuators.api`; each file beside it is one kind of capacity.
"""
