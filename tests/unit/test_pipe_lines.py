"""The pipe line by line: one answer for each observation, errors that name the line and the cure, a state that resumes exactly."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from controlplane.config import load_fleets
from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import Frame, PipeLine
from controlplane.pipe import LINE_BYTES, Pipe, answer_of, run_pipe
from controlplane.pipeline import Pipeline
from controlplane.snapshot import SCHEMA_VERSION

FLEET = "piped"
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: piped}
spec:
  serving: {model: test/model, engine: other, slo: {ttft: 2s, attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  floor:
    - name: owned
      accelerator: {type: H200}
      capacityPerSecond: 2.0
      replicas: {min: 1, max: 2}
      usdPerReplicaHour: 5
      leadTime: 1m
  burst:
    - name: rented
      accelerator: {type: H200}
      capacityPerSecond: 2.0
      replicas: {max: 60}
      usdPerReplicaHour: 10
      leadTime: 5m
      hold: 5m
  spill:
    - {name: hosted, usdPerUnit: 0.004}
  guard: {mode: recommend, budget: {usdPerHour: 900, usdPerDay: 9000}}
  behavior: {scaleDown: {stabilizationWindow: 10m}}
  tick: 1m
"""
OTHER = POLICY.replace("name: piped", "name: second")


@pytest.fixture
def fleets(tmp_path: Path) -> tuple[Fleet, ...]:
    path = tmp_path / "policy.yaml"
    path.write_text(f"{POLICY}---\n{OTHER}")
    return load_fleets([path])


def observation(minute: int, demand: float | None = 5.0, **fields: Any) -> str:
    time = f"2026-11-22T{10 + minute // 60:02d}:{minute % 60:02d}:00Z"
    return json.dumps({"type": "observation", "fleet": FLEET, "time": time, "demand": demand, **fields})


def answer(pipe: Pipe, *lines: str | bytes) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (exit status, answers, errors) of lines given to a pipe."""
    answers, errors = io.BytesIO(), io.BytesIO()
    source = [line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines]
    status = run_pipe(pipe, [source], answers, errors)
    read = [[json.loads(line) for line in stream.getvalue().splitlines()] for stream in (answers, errors)]
    return status, read[0], read[1]


def test_lines_that_come_together_are_answered_as_one_by_one(fleets: tuple[Fleet, ...]) -> None:
    launch = {"type": "launch", "fleet": FLEET, "time": "2026-11-22T10:00:00Z", "name": "v4", "starts": "2026-11-22T10:20:00Z"}
    alert = {"type": "alert", "fleet": FLEET, "time": "2026-11-22T10:12:00Z", "name": "queue", "action": "lift", "lift_replicas": 3}
    lines = [
        observation(minute, 5.0 + 40.0 * (minute % 7 == 3), ready={"owned": 2}, pending={"rented": minute % 3}) for minute in range(40)
    ]
    lines[5:5] = [json.dumps(launch), observation(3), "{oops", ""]
    lines[16:16] = [json.dumps(alert), observation(12, None)]
    together, alone = Pipe(fleets), Pipe(fleets)
    one_by_one = [alone.answer([line.encode()])[0] for line in lines]
    assert [str(each) for each in together.answer([line.encode() for line in lines])] == [str(each) for each in one_by_one]
    assert sum(isinstance(each, bytes) for each in one_by_one) == 41


def test_each_observation_has_one_answer_in_order_and_launch_and_alert_have_none(fleets: tuple[Fleet, ...]) -> None:
    launch = {"type": "launch", "fleet": FLEET, "time": "2026-11-22T10:00:00Z", "name": "v4", "starts": "2026-11-23T17:00:00Z"}
    alert = {"type": "alert", "fleet": FLEET, "time": "2026-11-22T10:00:00Z", "name": "queue", "action": "lift", "lift_replicas": 3}
    lines = [observation(0), json.dumps(launch), observation(1), json.dumps(alert), observation(2), "", "   ", observation(3)]
    status, answers, errors = answer(Pipe(fleets), *lines)
    assert (status, errors) == (0, [])
    assert [line["time"] for line in answers] == [f"2026-11-22T10:0{minute}:00Z" for minute in range(4)]
    assert all(line["type"] == "decision" and set(line["targets"]) == {"owned", "rented"} for line in answers)
    assert sum(answers[2]["targets"].values()) >= sum(answers[1]["targets"].values()) + 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{not json\n", "Invalid JSON"),
        (b"\xff\xfe\n", "Invalid JSON"),
        (b"\x00\n", "Invalid JSON"),
        (b"[]\n", "should be an object"),
        (b"[" * 5000 + b"\n", "recursion limit"),
        ('{"type":"decision"}', "type"),
        ('{"fleet":"piped"}', "type"),
        ('{"type":"observation","fleet":"piped","time":"2026-11-22T10:01:00Z"}', "demand: Field required"),
        (observation(1, math.nan), "finite"),
        (observation(1, math.inf), "finite"),
        (observation(1, -1.0), "greater than or equal to 0"),
        (observation(1, ready={"rented": -1}), "ready.rented"),
        (observation(1, ready={"rented": 1.5}), "ready.rented"),
        (observation(1, ready={"leased": 1}), "'leased': not an offer of fleet 'piped'; its offers are: owned, rented"),
        (observation(1, unavailable=["leased"]), "'leased': not an offer"),
        (observation(1, prices={"hosted": 1.0}), "'hosted': not an offer"),
        (observation(1).replace("piped", "nobody"), "'nobody' has no policy; the policies name: piped, second"),
        (observation(1).replace("piped", "Not A Name"), "fleet"),
        (observation(1).replace("Z", ""), "time"),
        (observation(1).replace("2026-11-22T10:01:00Z", "0001-01-01T00:00:00+14:00"), "outside the years 1 to 9999"),
        (observation(1, 1e308), "demand: Input should be less than or equal to 1000000000000000"),
        (observation(1, backlog=1e300), "backlog: Input should be less than"),
        (observation(1, spilled=1e16), "spilled: Input should be less than"),
        (observation(1, pending={"rented": 10**400}), "pending.rented"),
        (observation(1, note="x" * LINE_BYTES), "line: longer than 2,097,152 bytes"),
        (b" " * (LINE_BYTES + 1) + b"\n", "line: longer than 2,097,152 bytes"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number_and_the_next_one_is_answered(
    fleets: tuple[Fleet, ...], line: str | bytes, told: str
) -> None:
    status, answers, errors = answer(Pipe(fleets), observation(0), line, observation(2))
    assert status == 2
    assert [(error["type"], error["line"]) for error in errors] == [("error", 2)]
    assert told in errors[0]["error"]
    _, good, _ = answer(Pipe(fleets), observation(0), observation(2))
    assert answers == good


def test_lines_out_of_order_are_errors_for_their_fleet_alone(fleets: tuple[Fleet, ...]) -> None:
    other = observation(1).replace("piped", "second")
    status, answers, errors = answer(Pipe(fleets), observation(5), other, observation(4), observation(5), observation(6))
    assert status == 2
    assert len(answers) == 4
    assert [error["line"] for error in errors] == [3]
    assert "before the fleet's previous line" in errors[0]["error"]


def test_the_hugest_figures_are_recovered_from(fleets: tuple[Fleet, ...]) -> None:
    pipe, held = Pipe(fleets), {"owned": 2, "rented": 0}
    for minute in range(780):
        huge = 60 <= minute < 63
        _, answers, errors = answer(pipe, observation(minute, 1e15 if huge else 50.0, ready=held, backlog=1e15 if huge else 0.0))
        assert errors == []
        held = answers[0]["targets"]
    assert 20 <= held["rented"] <= 30, "50 work per second, of which 4 are the floor's, at 2 per replica"


def test_huge_figures_leave_finite_answers_afterwards(fleets: tuple[Fleet, ...]) -> None:
    lines = [observation(minute, 1e15, backlog=1e15) for minute in range(3)] + [observation(minute) for minute in range(3, 40)]
    lines.append(observation(40, spilled=1e15, late=1e15, served=1e15))
    lines += [observation(minute, ready={"owned": 2, "rented": 10**12}) for minute in range(41, 44)]
    _, answers, errors = answer(Pipe(fleets), *lines, observation(50))
    assert len(answers) + len(errors) == len(lines) + 1
    assert answers[-1]["time"] == "2026-11-22T10:50:00Z"
    for line in answers:
        assert math.isfinite(line["spill_per_second"])
        assert all(0 <= count <= 60 for count in line["targets"].values())


def test_a_line_of_a_megabyte_is_answered(fleets: tuple[Fleet, ...]) -> None:
    status, answers, _ = answer(Pipe(fleets), observation(0, note="x" * 2**20), observation(1))
    assert (status, len(answers)) == (0, 2)


def test_unknown_demand_is_answered_and_never_shrinks(fleets: tuple[Fleet, ...]) -> None:
    held = {"ready": {"owned": 2, "rented": 9}}
    lines = [observation(minute, 20.0, **held) for minute in range(10)] + [observation(minute, None, **held) for minute in range(10, 60)]
    status, answers, _ = answer(Pipe(fleets), *lines)
    assert (status, len(answers)) == (0, 60)
    assert all(line["targets"]["rented"] >= 9 for line in answers[10:])
    assert "STALE_HOLD" in answers[-1]["reasons"] or answers[-1]["targets"]["rented"] > 9


def test_a_history_without_replicas_is_decided_on_a_shadow_pool_of_its_own_targets(fleets: tuple[Fleet, ...]) -> None:
    demands = [5.0] * 10 + [30.0] * 20
    _, shadow, _ = answer(Pipe(fleets), *(observation(minute, demand, late=0.0) for minute, demand in enumerate(demands)))
    pipe, stated = Pipe(fleets), []
    for minute, demand in enumerate(demands):
        held = {"ready": stated[-1]["targets"]} if stated else {}
        stated += answer(pipe, observation(minute, demand, late=0.0, **held))[1]
    assert [line["targets"] for line in shadow] == [line["targets"] for line in stated]
    assert shadow[-1]["targets"]["rented"] > shadow[5]["targets"]["rented"]


def test_a_history_is_decided_alike_for_an_acting_policy(tmp_path: Path) -> None:
    """Nobody tells of pools in a history, and no budget is kept for what they might hold."""
    policy = POLICY.replace("hold: 5m", "hold: 5m\n      simulated: {}").replace("usdPerHour: 900", "usdPerHour: 500")
    lines, targets = [observation(minute, 10.0) for minute in range(10)], []
    for mode in ("recommend", "act"):
        path = tmp_path / f"{mode}.yaml"
        path.write_text(policy.replace("mode: recommend", f"mode: {mode}"))
        targets.append([line["targets"] for line in answer(Pipe(load_fleets([path])), *lines)[1]])
    assert targets[0][-1]["rented"] > 0
    assert targets[1] == targets[0]


def test_a_recommending_policy_believes_the_replicas_that_frames_state(fleets: tuple[Fleet, ...]) -> None:
    _, full, _ = answer(Pipe(fleets), *(observation(minute, 1.0, ready={"owned": 2, "rented": 20}) for minute in range(3)))
    _, empty, _ = answer(Pipe(fleets), *(observation(minute, 1.0, ready={"owned": 2}) for minute in range(3)))
    assert full[0]["targets"]["rented"] == 20, "shrinking waits for the stabilization window"
    assert empty[0]["targets"]["rented"] == 0


def test_an_empty_statement_of_replicas_says_that_there_are_none(fleets: tuple[Fleet, ...]) -> None:
    """As it says for one offer that is left out; only a frame without any statement is a history."""
    full = [observation(minute, 5.0, ready={"owned": 2, "rented": 20}) for minute in range(3)]
    _, empty, _ = answer(Pipe(fleets), *full, observation(3, 5.0, ready={}, pending={}))
    _, named, _ = answer(Pipe(fleets), *full, observation(3, 5.0, ready={"owned": 0, "rented": 0}))
    assert empty == named


def test_what_was_unavailable_is_available_once_a_frame_no_longer_says_so(fleets: tuple[Fleet, ...]) -> None:
    lines = [observation(minute, 30.0, unavailable=["rented"]) for minute in range(10)]
    _, answers, _ = answer(Pipe(fleets), *lines, *(observation(minute, 30.0) for minute in range(10, 14)))
    assert answers[9]["targets"]["rented"] == 0
    assert answers[13]["targets"]["rented"] > 0


def test_the_last_line_needs_no_newline(fleets: tuple[Fleet, ...]) -> None:
    status, answers, _ = answer(Pipe(fleets), observation(0), observation(1).encode())
    assert (status, len(answers)) == (0, 2)


def eventful(minutes: range) -> list[str]:
    """Return lines that touch everything a state holds."""
    lines = []
    for minute in minutes:
        demand = 5.0 + 20.0 * (minute // 15 % 2)
        fields: dict[str, Any] = {"prices": {"rented": 10.0 + minute % 3}, "late": 0.1 * (minute % 2), "spilled": 0.2}
        if minute % 20 < 5:
            fields["unavailable"] = ["rented"]
        lines.append(observation(minute, demand if minute % 7 else None, backlog=float(minute % 4), **fields))
        if minute == 33:
            lines.append(json.dumps({"type": "alert", "fleet": FLEET, "time": "2026-11-22T10:33:00Z", "name": "a", "action": "lift",
                                     "lift_replicas": 2, "expires": "2026-11-22T11:30:00Z"}))  # fmt: skip
            lines.append(json.dumps({"type": "launch", "fleet": FLEET, "time": "2026-11-22T10:33:00Z", "name": "w",
                                     "starts": "2026-11-22T11:10:00Z", "peak_multiple": 4.0}))  # fmt: skip
    return lines


@pytest.mark.parametrize("cut", [1, 34, 61, 119])
def test_a_resumed_pipe_answers_as_if_it_had_never_stopped(fleets: tuple[Fleet, ...], tmp_path: Path, cut: int) -> None:
    state = tmp_path / "state.json"
    _, whole, errors = answer(Pipe(fleets), *eventful(range(120)))
    assert errors == []
    first = Pipe(fleets)
    first.load(state)
    _, before, _ = answer(first, *eventful(range(cut)))
    first.save(state)
    second = Pipe(fleets)
    second.load(state)
    _, after, _ = answer(second, *eventful(range(cut, 120)))
    assert before + after == whole
    assert list(tmp_path.glob("state.json?*")) == []


def test_a_resumed_pipe_knows_how_far_it_was(fleets: tuple[Fleet, ...], tmp_path: Path) -> None:
    first = Pipe(fleets)
    answer(first, observation(5))
    first.save(tmp_path / "state.json")
    second = Pipe(fleets)
    second.load(tmp_path / "state.json")
    assert answer(second, observation(4))[2][0]["error"].startswith("time: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}x",
        b"[]",
        b"\xff",
        b'{"piped":["a","b"]}',
        b'{"piped":["{}","{}"]}',
    ],
)
def test_a_file_that_is_no_state_is_refused_by_name(fleets: tuple[Fleet, ...], tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"state\.json: .*delete it to start fresh"):
        Pipe(fleets).load(path)


def test_a_state_of_another_version_is_refused_by_name(fleets: tuple[Fleet, ...], tmp_path: Path) -> None:
    pipe, path = Pipe(fleets), tmp_path / "state.json"
    answer(pipe, observation(0))
    pipe.save(path)
    mark = f'\\"version\\":{SCHEMA_VERSION},'
    text = path.read_text()
    assert mark in text
    path.write_text(text.replace(mark, f'\\"version\\":{SCHEMA_VERSION + 1},'))
    with pytest.raises(SnapshotError, match=rf"state\.json: snapshot version {SCHEMA_VERSION + 1}, this is version {SCHEMA_VERSION}"):
        Pipe(fleets).load(path)


def test_the_pipe_is_the_production_pipeline(fleets: tuple[Fleet, ...]) -> None:
    """It takes its two halves in turn; folded whole, as the simulator does, the same lines have the same answers."""
    pipeline, lines = Pipeline(fleets[0]), eventful(range(120))
    state, folded = pipeline.start(), []
    for line in lines:
        read = TypeAdapter[PipeLine](PipeLine).validate_json(line)
        if isinstance(read, Frame):
            state, verdict = pipeline.frame(state, read)
            folded.append(json.loads(answer_of(read, verdict, {})))
        else:
            state = pipeline.tell(state, read)
    assert answer(Pipe(fleets), *lines) == (0, folded, [])
