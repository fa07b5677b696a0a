"""The words of tidegate as plain data: everyone may import it, it imports nobody.

`events` is what travels on NATS, `fleet` what a policy compiles to, `frame` the lines of the pipe, `subjects` every name on the bus.
It must not read a clock, a file, the environment or the network. Go on to `controlplane.pipeline`, which folds these events.
"""
