"""`tidegate demo`: a week of real traffic with a launch wave, on an embedded NATS and a simulated cloud.

Owns the story that is played, its folder, its comparisons and its result; the control plane in it is the production one.
Start at `command`.
"""
