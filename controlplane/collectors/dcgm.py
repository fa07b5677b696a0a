"""How busy and how full GPUs are, as the DCGM exporter tells it.

Owns its names and their preference: the profiling metrics say what share of the chip works, GPU_UTIL only that something does, and
saturates. Values are shares of 0 to 1; what is not exported stays unknown.
"""

from collections.abc import Mapping

from controlplane.collectors.promql import matchers
from controlplane.collectors.work import Gpus

SM_ACTIVE = "DCGM_FI_PROF_SM_ACTIVE"
GPU_UTIL = "DCGM_FI_DEV_GPU_UTIL"
MEMORY_USED = "DCGM_FI_DEV_FB_USED"
MEMORY_FREE = "DCGM_FI_DEV_FB_FREE"
NAMES = frozenset({SM_ACTIVE, GPU_UTIL, MEMORY_USED, MEMORY_FREE})


def queries(labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the queries for use and for memory."""
    picked = matchers(labels.items())
    used = f"avg({SM_ACTIVE}{picked}) or avg({GPU_UTIL}{picked}) / 100"
    memory = f"sum({MEMORY_USED}{picked}) / (sum({MEMORY_USED}{picked}) + sum({MEMORY_FREE}{picked}))"
    return used, memory


def gpus_of(values: Mapping[str, list[float]]) -> Gpus:
    """Return the shares out of scraped values by name, one per GPU."""
    busy = values.get(SM_ACTIVE) or [value / 100.0 for value in values.get(GPU_UTIL, ())]
    used, free = sum(values.get(MEMORY_USED, ())), sum(values.get(MEMORY_FREE, ()))
    return Gpus(share(sum(busy) / len(busy)) if busy else None, share(used / (used + free)) if used + free > 0.0 else None)


def share(value: float | None) -> float | None:
    """Return a share within 0 to 1, None for what is none."""
    return None if value is None or not -0.01 <= value <= 1.01 else min(max(value, 0.0), 1.0)
