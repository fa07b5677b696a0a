"""The demo's folder: only a demo's is ever cleaned, by one demo at a time."""

from pathlib import Path

import pytest

from controlplane.contracts.errors import TidegateError
from controlplane.demo.folder import demo_folder


def test_a_new_demo_cleans_what_an_earlier_one_left(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "d", resume=False, seconds=20.0):
        (tmp_path / "d" / "nats").mkdir()
        (tmp_path / "d" / "report.html").write_text("old")
    with demo_folder(tmp_path / "d", resume=False, seconds=30.0) as seconds:
        left = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert seconds == 30.0
    assert left == ["tidegate-demo.json", "tidegate-demo.lock"]


def test_a_resumed_demo_keeps_everything_and_its_pace(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "d", resume=False, seconds=20.0):
        (tmp_path / "d" / "nats").mkdir()
    with demo_folder(tmp_path / "d", resume=True, seconds=100.0) as seconds:
        assert (tmp_path / "d" / "nats").is_dir()
    assert seconds == 20.0


def test_what_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TidegateError, match="something else than a demo"), demo_folder(tmp_path, resume=False, seconds=20.0):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(TidegateError, match="no demo to resume"), demo_folder(tmp_path / "d", resume=True, seconds=20.0):
        pass
    assert not (tmp_path / "d").exists()


def test_two_demos_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        demo_folder(tmp_path / "d", resume=False, seconds=20.0),
        pytest.raises(TidegateError, match="another demo runs"),
        demo_folder(tmp_path / "d", resume=False, seconds=20.0),
    ):
        pass


def test_a_start_that_was_cut_off_before_its_marker_is_started_anew(tmp_path: Path) -> None:
    (tmp_path / "tidegate-demo.lock").touch()
    with demo_folder(tmp_path, resume=False, seconds=20.0) as seconds:
        assert seconds == 20.0


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TidegateError, match="--folder"), demo_folder(tmp_path / "file" / "d", resume=False, seconds=20.0):
        pass
