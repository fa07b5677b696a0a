"""The terminal view of a running control plane: what is on NATS, folded into a few numbers and drawn.

Owns nothing that decides: `model` folds events, `view` draws them. The demo shows it.
"""
