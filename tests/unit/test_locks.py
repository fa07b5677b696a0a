"""The two locks: all that a checkout installs, and the part of it that the image needs. Hashes in both, addresses in neither."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT, IMAGE = ROOT / "requirements.lock", ROOT / "deploy" / "requirements.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Return version and marker, and the hashes, of each package."""
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition("==")
        pin, *hashes = rest.split("--hash=")
        found[name] = (pin.strip(), frozenset(part.strip() for part in hashes))
    return found


def names(requirements: list[str | dict[str, str]]) -> set[str]:
    return {re.split(r"[\[<>=!;, ]", text, maxsplit=1)[0] for text in requirements if isinstance(text, str)}


@pytest.mark.parametrize("lock", [CHECKOUT, IMAGE], ids=["checkout", "image"])
def test_every_package_is_pinned_with_hashes_and_no_address_gets_in(lock: Path) -> None:
    assert "://" not in lock.read_text()
    for name, (version, hashes) in pins(lock).items():
        assert re.match(r"\d", version), name
        assert hashes, name


def test_the_image_has_what_the_project_needs_at_the_versions_that_are_tested() -> None:
    image = pins(IMAGE)
    assert image.items() <= pins(CHECKOUT).items()
    assert names(PROJECT["project"]["dependencies"]) | names(PROJECT["project"]["optional-dependencies"]["otel"]) <= image.keys()


def test_the_image_has_no_development_tools() -> None:
    development = names(PROJECT["dependency-groups"]["dev"]) - names(PROJECT["project"]["optional-dependencies"]["otel"])
    assert len(development) > 10
    assert not development & pins(IMAGE).keys()
