"""Rigs for the actuators' contract suite: every kind, and those that buy. A kind that needs a real component is skipped by its name."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.actuator_rigs import RIGS, SUPPLIER_RIGS, Rig, RigMaker, offer_with
from tests.kube.rig import KubernetesRig

# Kinds that set a number instead of buying replica by replica: no intents, no listing that lags, no minimum hold, one owner per object.
SET_A_NUMBER = {"kubernetes"}
ALL_RIGS = {**RIGS, **SUPPLIER_RIGS}
NEEDS = {"kubernetes": pytest.mark.needs("kube-apiserver")}


def kinds(names: set[str]) -> list[object]:
    return [pytest.param(name, marks=NEEDS.get(name, ())) for name in sorted(names)]


@contextlib.asynccontextmanager
async def rigs_of(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[RigMaker]:
    rigs: list[Rig] = []
    world = {"plane": request.getfixturevalue("control_plane")} if request.param == "kubernetes" else {}

    def make(*, start_failure_share: float = 0.0, **offer: object) -> Rig:
        rigs.append(ALL_RIGS[request.param](folder, offer_with(**offer), start_failure_share=start_failure_share, **world))
        return rigs[-1]

    try:
        yield make
        for rig in rigs:
            rig.check()
    finally:
        for rig in rigs:
            if isinstance(rig, KubernetesRig):
                await rig.close()


@pytest.fixture(params=kinds(set(ALL_RIGS)))
async def rig_of(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RigMaker]:
    async with rigs_of(request, tmp_path) as make:
        yield make


@pytest.fixture(params=kinds(set(ALL_RIGS) - SET_A_NUMBER))
async def buyer_of(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RigMaker]:
    """Rigs of the kinds that buy."""
    async with rigs_of(request, tmp_path) as make:
        yield make
