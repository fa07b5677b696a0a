"""What docs/signals.md says is so: its examples are observations and policies, and its tables name every metric that is read."""

import json
import re
from pathlib import Path

import pytest
import yaml

from controlplane.collectors import dcgm
from controlplane.collectors.gateway import GATEWAYS
from controlplane.collectors.presets import PRESETS
from controlplane.contracts.events import Flag, Observation
from policies.schema_demand import DemandBlock

PAGE = (Path(__file__).parents[2] / "docs" / "signals.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_pushed_examples_are_observations() -> None:
    shell = re.findall(r"'(\{.*\})'", blocks("sh")[0])[0].replace("'\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"'", "2026-11-22T10:00:15Z")
    for text in (*blocks("json"), shell):
        seen = Observation.model_validate(json.loads(text))
        assert seen.demand_per_second == 118.4
        assert set(json.loads(text)) <= set(Observation.model_fields)


def test_the_python_example_compiles() -> None:
    for text in blocks("python"):
        compile(text, "signals.md", "exec")


def test_the_policies_are_valid() -> None:
    for text in blocks("yaml"):
        DemandBlock.model_validate(yaml.safe_load(text)["demand"])


@pytest.mark.parametrize("engine", PRESETS)
def test_every_name_of_a_preset_is_in_the_table(engine: str) -> None:
    names = {metric.name for options in PRESETS[engine].signals.values() for option in options for metric in option}

    assert not {name for name in names if f"`{name}`" not in PAGE}


def test_every_other_name_and_every_flag_is_there() -> None:
    names = {name for preset in GATEWAYS.values() for name in (*preset.spilled, *preset.shed)} | dcgm.NAMES

    assert not {name for name in names if f"`{name}`" not in PAGE}
    assert not {flag for flag in Flag if f"`{flag}`" not in PAGE}
