from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.config import load_fleets
from controlplane.contracts.errors import PolicyError
from controlplane.replay import refuse_mixture, replay_of, shared_time
from controlplane.traces.waves import synthetic_trace

LIBRARY = Path(__file__).resolve().parents[2] / "policies" / "library"


def test_a_process_has_one_time():
    (replaying,) = load_fleets([LIBRARY / "replay-demo.yaml"])
    (live,) = load_fleets([LIBRARY / "small.yaml"])
    refuse_mixture([replaying])
    refuse_mixture([live])
    with pytest.raises(PolicyError, match="replay-demo replay a trace and llama-8b do not"):
        refuse_mixture([replaying, live])


def test_replays_must_agree_on_speed():
    (fleet,) = load_fleets([LIBRARY / "replay-demo.yaml"])
    trace = synthetic_trace(seed=1, days=1.0)
    slow, fast = replay_of(fleet, (), trace, speed=10.0), replay_of(fleet, (), trace, speed=20.0)
    assert shared_time([slow, slow]) == (slow.start_unix, 10.0)
    with pytest.raises(PolicyError, match="share a speed"):
        shared_time([slow, fast])


def test_the_policy_says_whether_a_replay_loops():
    (fleet,) = load_fleets([LIBRARY / "replay-demo.yaml"])
    trace = synthetic_trace(seed=1, days=1.0)
    assert not replay_of(fleet, (), trace).loop
    looping = replace(fleet, demand_source={**fleet.demand_source, "loop": True})
    assert replay_of(looping, (), trace).loop
