"""The command line from its door: exit codes, where a message goes, and that every message says what would be right."""

import json
from pathlib import Path

import pytest
import yaml

from controlplane.cli import main
from tests.unit.test_pipe_lines import POLICY

COMMANDS = ("demo", "up", "run", "decide", "simulate", "validate", "schema", "asyncapi", "traces", "events", "floor", "bench", "version")
REPLAY = POLICY.replace("nats: {}", "replay: {trace: no_such_trace, speed: 60}")


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good policy, and an environment that says nothing."""
    monkeypatch.delenv("TIDEGATE_NATS", raising=False)
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def status_of(*arguments: str) -> int:
    """Run the command line and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_names_every_command_in_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert any(line.split()[0] == command and len(line.split()) > 3 for line in shown.splitlines() if line.strip()), command
    assert "own the floor, rent the burst, spill the rest" in " ".join(shown.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"Usage: tidegate {command} " in shown
    assert len(shown.splitlines()) > 4


def test_arguments_that_are_missing_or_unknown_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("up") == 2
    assert status_of("no-such-command") == 2
    assert status_of("decide", "--no-such-option") == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("service", ["collector", "forecaster", "planner", "actuator"])
def test_a_service_alone_says_that_it_needs_a_server(policy: Path, service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("run", service, str(policy)) == 1
    told = capsys.readouterr().err
    assert told.startswith("tidegate: ")
    assert "--nats" in told
    assert "TIDEGATE_NATS" in told


def test_an_unknown_service_or_mode_is_told_the_choices(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("run", "dreamer", str(policy), "--nats", "nats://127.0.0.1:4") == 1
    assert "collector, forecaster, planner, actuator" in capsys.readouterr().err
    assert status_of("up", str(policy), "--mode", "dream") == 1
    assert "recommend" in capsys.readouterr().err


def test_an_address_without_its_scheme_is_told_how_to_write_it(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("up", str(policy), "--cloud", "127.0.0.1:9") == 1
    assert "--cloud '127.0.0.1:9' is not an address; write it as http://host:port" in capsys.readouterr().err


def test_following_events_needs_an_address(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("events") == 1
    assert "--nats" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("up",), ("decide",), ("simulate",), ("run", "planner")])
def test_a_malformed_policy_is_named_with_file_line_and_cure(
    policy: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    policy.write_text(POLICY.replace("leadTime: 5m", "leadTime: 5 minutes").replace("mode: recommend", "mode: dream"))
    assert status_of(*command, str(policy)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    for line, path in ((20, "leadTime"), (24, "guard.mode")):
        assert any(f"policy.yaml:{line}: " in problem and path in problem for problem in shown.err.splitlines()), shown.err


def test_a_policy_that_is_not_there_is_named(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("up", str(policy.with_name("absent.yaml"))) == 1
    assert "absent.yaml" in capsys.readouterr().err


def test_validate_prints_all_and_fails_for_errors_only(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("validate", str(policy)) == 0
    assert "valid: 1 fleet (piped)" in capsys.readouterr().out
    policy.write_text(POLICY.replace("leadTime: 5m", "leadTime: 5 minutes"))
    assert status_of("validate", str(policy)) == 1
    assert "policy.yaml:20: " in capsys.readouterr().out


@pytest.mark.parametrize("command", [("simulate",), ("up",)])
def test_a_trace_that_is_not_there_is_named_with_where_was_looked(
    policy: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    policy.write_text(REPLAY)
    assert status_of(*command, str(policy)) == 1
    told = capsys.readouterr().err
    assert "no_such_trace" in told
    assert str(policy.parent) in told


def test_simulating_a_policy_without_a_trace_asks_for_one(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("simulate", str(policy)) == 1
    assert "--trace" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_the_run(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("simulate", str(policy), "--trace", "synthetic", "--report", str(policy.parent / "away" / "report.html")) == 1
    told = capsys.readouterr().err
    assert "--report" in told
    assert "folder that is there" in told


@pytest.mark.parametrize(
    "command",
    [
        ("backtest", "small", "--report"),
        ("bench", "--trace", "small", "--html"),
        ("decide", "{policy}", "--state"),
        ("floor", "{policy}", "--trace", "synthetic", "--report"),
        ("simulate", "{policy}", "--trace", "synthetic", "--report"),
    ],
    ids=lambda command: command[0],
)
def test_where_no_file_can_be_made_the_command_says_so_before_it_works(
    policy: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*(word.format(policy=policy) for word in command), "/proc/out.html") == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{command[-1]} /proc/out.html: cannot be written" in told.err


def test_an_unknown_peer_is_told_before_the_backtest(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("backtest", "no-such-trace", "--peer", "prophet") == 1
    assert "no peer is named 'prophet'; there are ets" in capsys.readouterr().err


def test_a_fleet_that_the_policies_do_not_hold_is_named(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("simulate", str(policy), "--trace", "synthetic", "--fleet", "nope") == 1
    assert "no fleet is named 'nope'; the policies hold: " in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("up", str(policy), "--folder", str(policy)) == 1
    told = capsys.readouterr().err
    assert str(policy) in told
    assert "--folder" in told


def test_following_a_subject_that_nobody_carries_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("events", "--nats", "nats://127.0.0.1:1", "--subjects", "nonsense.>") == 1
    told = capsys.readouterr().err
    assert "tidegate.decision.*" in told
    assert "tidegate.dead.>" in told


def test_what_is_printed_for_programs_is_readable_by_them(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("schema") == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")
    assert status_of("asyncapi") == 0
    assert json.loads(capsys.readouterr().out)["asyncapi"].startswith("3.")
    assert status_of("traces", "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    assert status_of("version") == 0
    assert capsys.readouterr().out.startswith("tidegate ")


def test_the_policy_of_these_tests_is_where_its_lines_are_said_to_be() -> None:
    assert yaml.safe_load(POLICY)["metadata"]["name"] == "piped"
    lines = POLICY.splitlines()
    assert "leadTime: 5m" in lines[19]
    assert "mode: recommend" in lines[23]
