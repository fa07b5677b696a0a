"""How fast `tidegate decide` answers, as a user runs it: a process, lines in, lines out, one fleet on one core.

Owns nothing but the measurement: it prints observations per second after a warm-up, the time to the first answer, and how much memory
the process gained between a tenth of the lines and all of them. Run `python benchmarks/pipe_throughput.py [--lines 100000]`.
"""

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
START = datetime(2026, 3, 2, tzinfo=UTC)
WARM_UP_LINES = 2000
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: measured}
spec:
  serving: {model: test/model, engine: other, slo: {ttft: 2s, attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  floor:
    - {name: owned, accelerator: {type: H200}, capacityPerSecond: 4.0, replicas: {min: 2, max: 4}, usdPerReplicaHour: 17, leadTime: 3m}
  burst:
    - {name: near, accelerator: {type: B200}, capacityPerSecond: 8.0, replicas: {max: 40}, usdPerReplicaHour: 76, leadTime: 5m, hold: 10m}
    - {name: far, accelerator: {type: H200}, capacityPerSecond: 4.0, replicas: {max: 60}, usdPerReplicaHour: 34, leadTime: 8m, hold: 10m}
  spill:
    - {name: hosted, usdPerUnit: 0.007}
  behavior: {scaleDown: {stabilizationWindow: 5m}}
  guard: {mode: act, budget: {usdPerHour: 6000}}
  tick: 1m
"""


def lines_of(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield observations a minute apart: a daily tide, noise, bursts, and replicas that are said to be there."""
    dice = random.Random(seed)
    for minute in range(count):
        tide = 40.0 + 30.0 * math.sin(2.0 * math.pi * minute / 1440.0)
        burst = 3.0 if minute // 60 % 37 == 0 else 1.0
        line = {
            "type": "observation",
            "fleet": "measured",
            "time": (START + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z"),
            "demand": round(tide * burst * dice.lognormvariate(0.0, 0.2), 3),
            "backlog": 0.0,
            "ready": {"owned": 4, "near": 2 + minute % 3, "far": 4},
            "late": 0.0,
            "spilled": 0.0,
        }
        yield json.dumps(line).encode() + b"\n"


def resident_mib(pid: int) -> float:
    """Return a process's resident memory, MiB; NaN where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next(float(line.split()[1]) / 1024.0 for line in fields if line.startswith("VmRSS:"))


def measure(count: int) -> dict[str, float]:
    """Run `tidegate decide` on so many lines and return the figures; every line must get its answer, in order."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        began = time.perf_counter()
        command = [sys.executable, "-m", "controlplane.cli", "decide", str(policy)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            feeding = threading.Thread(target=_feed, args=(process.stdin, count), daemon=True)
            feeding.start()
            marks: dict[int, tuple[float, float]] = {}
            for number, answer in enumerate(process.stdout, start=1):
                if number in (1, WARM_UP_LINES, count // 10, count):
                    marks[number] = (time.perf_counter(), resident_mib(process.pid))
                    expected = START + timedelta(minutes=number - 1)
                    assert json.loads(answer)["time"] == expected.isoformat().replace("+00:00", "Z"), "answers are not in order"
            feeding.join()
        assert process.returncode == 0
        assert count in marks, "not every line was answered"
    warm = min(WARM_UP_LINES, count // 10)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "first_answer_seconds": marks[1][0] - began,
        "observations_per_second": (count - warm) / (marks[count][0] - marks[warm][0]),
        "observations_per_cpu_second": count / (used.ru_utime + used.ru_stime),
        "resident_mib": marks[count][1],
        "gained_mib": marks[count][1] - marks[count // 10][1],
    }


def _feed(pipe: IO[bytes], count: int) -> None:
    for line in lines_of(count):
        pipe.write(line)
    pipe.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000, help="observations to answer, 20,000 or more")
    count = max(parser.parse_args().lines, 10 * WARM_UP_LINES)
    figures = measure(count)
    print(f"{count:,} observations answered one for one, in order")
    print(f"{figures['observations_per_second']:,.0f} observations/s after {min(WARM_UP_LINES, count // 10):,} of warm-up (target 2,000)")
    print(f"{figures['observations_per_cpu_second']:,.0f} per second of its own processor time, start-up included")
    print(f"{figures['first_answer_seconds']:.2f} s to the first answer")
    print(f"{figures['resident_mib']:.0f} MiB resident at the end, {figures['gained_mib']:+.1f} MiB since a tenth of the lines")


if __name__ == "__main__":
    main()
