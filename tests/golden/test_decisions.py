"""A few decision traces, number by number: a difference is a reviewed change of behaviour.

Owns `decisions/*.json`, each the targets, allowance and reasons of one scene; `TIDEGATE_GOLDEN=write` writes them anew.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import pytest

from controlplane.contracts.fleet import Behavior, Budget, Direction, StepKind, StepLimit
from tests.unit.decide_stories import BURST, DEARER, RESERVED, Scene, fleet_of

FOLDER = Path(__file__).parent / "decisions"


def tide(minute: float) -> float:
    """Return a day between 30 and 170 work per second, lowest at midnight."""
    return 100.0 - 70.0 * cos(2.0 * pi * minute / 1440.0)


def three_tiers() -> list[dict[str, Any]]:
    """A day of tide on floor, burst and spill, every ten minutes."""
    return told(Scene(fleet_of(), tide, held={"reserved": 4}), range(0, 1440, 10))


def two_tiers_stabilized() -> list[dict[str, Any]]:
    """The same day without spill, with a window, a tolerance and step limits."""
    behavior = Behavior(
        Direction(tolerance=0.05, steps=(StepLimit(StepKind.REPLICAS, 3, 1200.0),)),
        Direction(1800.0, 0.05, (StepLimit(StepKind.PERCENT, 20, 600.0),)),
    )
    return told(Scene(fleet_of(spill=None, behavior=behavior), tide, held={"reserved": 4}), range(0, 1440, 10))


def offers_in_trouble() -> list[dict[str, Any]]:
    """Half a day with two offers, the cheaper refusing for an hour, stale data for another, a budget for both."""

    def world(minute: int) -> dict[str, Any]:
        refuses = ("burst",) if 240 <= minute < 300 else ()
        return {"unavailable": refuses, "demand_age_seconds": 600.0 if 360 <= minute < 420 else 0.0}

    fleet = fleet_of(RESERVED, BURST, replace(DEARER, replicas_per_lot=2), budget=Budget(usd_per_hour=450.0))
    return told(Scene(fleet, tide, held={"reserved": 4}), range(180, 720, 10), world)


def told(scene: Scene, minutes: range, world: Callable[[int], dict[str, Any]] = lambda _: {}) -> list[dict[str, Any]]:
    """Return what was decided at each of the minutes."""
    out = []
    for minute in minutes:
        verdict = scene.at(float(minute), **world(minute))
        reasons = [reason.value for reason in verdict.reasons]
        out.append({"minute": minute, **verdict.targets, "spill_per_second": round(verdict.spill_per_second, 6), "reasons": reasons})
    return out


@pytest.mark.parametrize("scene", [three_tiers, two_tiers_stabilized, offers_in_trouble], ids=lambda scene: scene.__name__)
def test_decisions_are_what_they_were(scene: Callable[[], list[dict[str, Any]]]) -> None:
    path = FOLDER / f"{scene.__name__}.json"
    lines = [json.dumps(line) for line in scene()]
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == [json.loads(line) for line in lines]
