"""Forecasters: what demand will be, as quantiles by horizon, for one fleet or ten thousand at once.

Pure numpy over plain state: no I/O, no clock, no randomness that is not seeded by an argument. Start at `forecasters.api`.
"""
