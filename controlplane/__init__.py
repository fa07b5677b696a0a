"""tidegate's control plane: collectors, the bus, the pure pipeline, the simulator and the command line.

Start at `controlplane.pipeline`: it is the product without a network. `controlplane.app` is the only place that wires parts together.
"""
