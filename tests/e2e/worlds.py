"""The world that resilience is proved in: a bumpy trace, a policy that acts on it, and a cloud that misbehaves.

Demand jumps between two levels every twenty minutes, so that a fleet buys and gives back all the time. At this speed an hour of it
passes in six seconds. `programs` runs tidegate on it, `evidence` reads what came of it.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controlplane.config import load_fleets
from controlplane.contracts.fleet import Fleet
from controlplane.sim.cloud_config import CloudConfig, cloud_config_of

SPEED = 600.0
FLEET = "bumpy"
RENTED = "rented"
HIGH, LOW = 30.0, 5.0
HOURS = 20
START = datetime(2026, 3, 2, tzinfo=UTC)

POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: bumpy}}
spec:
  serving: {{model: test/model, engine: other, slo: {{ttft: 2s, attainment: 0.99}}}}
  demand:
    unit: requests
    replay: {{trace: "{trace}", column: requests, speed: {speed}, interval: 60s}}
  floor:
    - name: owned
      accelerator: {{type: H200}}
      capacityPerSecond: 2.0
      replicas: {{min: 1, max: 2}}
      usdPerReplicaHour: 5
      leadTime: 1m
      simulated: {{}}
  burst:
    - name: rented
      accelerator: {{type: H200}}
      capacityPerSecond: 2.0
      replicas: {{max: 60}}
      usdPerReplicaHour: 10
      leadTime: 2m
      hold: 2m
      simulated: {{}}
  spill:
    - {{name: hosted, usdPerUnit: 0.004, simulated: {{}}}}
  guard: {{mode: act, staleAfter: 5m}}
  tick: 1m
"""

PUSHED = """\
---
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: pushed}
spec:
  serving: {model: test/model, engine: other, slo: {ttft: 2s, attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  burst:
    - name: elsewhere
      accelerator: {type: H200}
      capacityPerSecond: 2.0
      replicas: {max: 20}
      usdPerReplicaHour: 10
      leadTime: 2m
  guard: {mode: recommend}
  tick: 1m
"""

# By the cloud's clock: the lag is 2.5 s of the wall's, longer than a restart takes, so that whoever forgot an intent buys again.
FAULTS: dict[str, Any] = {
    "listing_lag_seconds": 1500.0,
    "late_reply_share": 0.4,
    "late_reply_seconds": 0.4,
    "lost_reply_share": 0.15,
    "error_share": 0.1,
    "start_failure_share": 0.05,
}


def write_trace(folder: Path) -> Path:
    """Write the trace, a row a minute, and return its file."""
    rows = ["timestamp,requests"]
    for minute in range(HOURS * 60):
        level = HIGH if minute // 20 % 2 else LOW
        at = (START + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")
        rows.append(f"{at},{level * 60:g}")
    path = folder / "bumpy.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def write_policy(folder: Path, more: str = "", speed: float = SPEED) -> Path:
    """Write the policy of the bumpy trace, and other fleets after it, and return its file."""
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(trace=write_trace(folder), speed=speed) + more)
    return path


def fleet_in(policy: Path) -> Fleet:
    """Return the bumpy fleet."""
    return next(fleet for fleet in load_fleets([policy]) if fleet.name == FLEET)


def faulty(policy: Path) -> CloudConfig:
    """Return a cloud with every fault that a buyer may meet at once."""
    return cloud_config_of(fleet_in(policy), **{RENTED: FAULTS})


def faultless(policy: Path) -> CloudConfig:
    """Return the same cloud without faults."""
    return cloud_config_of(fleet_in(policy))
