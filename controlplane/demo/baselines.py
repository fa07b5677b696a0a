"""What others would have paid and achieved on the demo's demand, computed in a process of its own beside the demo.

Owns the child process and the hand-over of its results; it must not touch the demo's loop, whose decisions would wait for it.
Run as a module it computes the comparisons of a scenario and writes them, pickled, to standard output.
"""

import asyncio
import contextlib
import os
import pickle
import sys
from pathlib import Path

from controlplane.config import environment_variables
from controlplane.demo.scenario import scenario_of
from controlplane.sim.run import RunResult, run
from controlplane.traces.library import data_folders

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
NICENESS = 10
SECONDS_AT_MOST = 120.0


async def computed_apart(log_file: Path) -> tuple[RunResult, ...]:
    """Return the comparisons, computed by a child that ends with this task; none where it fails, and then the log says why."""
    with log_file.open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log
        )  # fmt: skip
    try:
        async with asyncio.timeout(SECONDS_AT_MOST):
            out, _ = await child.communicate()
        # It is our own child's output, over a pipe that nobody else writes to.
        return tuple(pickle.loads(out)) if child.returncode == 0 else ()
    except TimeoutError:
        return ()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def compute() -> tuple[RunResult, ...]:
    """Run every comparison of the scenario."""
    scenario = scenario_of(data_folders(environment_variables()), seconds=100.0)
    return tuple(
        run(made.name, made.scaler(made.fleet), made.fleet, scenario.workload, scenario.world, seed=SEED) for made in scenario.compared
    )


def main() -> None:
    """Compute with low priority, and hand over."""
    os.nice(NICENESS)
    sys.stdout.buffer.write(pickle.dumps(compute()))


if __name__ == "__main__":
    main()
