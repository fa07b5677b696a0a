"""Offers that share a cluster: each lets go of its own share, once, and is told of nothing after that."""

from typing import Any

from actuators.kubernetes import sharing
from actuators.kubernetes.api_server import PODS
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.pods import Pod, parse_pod
from actuators.kubernetes.sharing import SharedActuator, shared_actuator
from controlplane.contracts.fleet import Offer, Tier
from tests.fakes import MemoryIntentStore

OFFER = Offer("own", Tier.FLOOR, 1.0, 0, 8, 1.0, 60.0)


def in_use() -> int:
    return len(sharing._CLUSTERS)


async def test_closing_twice_takes_nobody_elses_share() -> None:
    first, second = (shared_actuator({"context": "c"}, MemoryIntentStore()) for _ in range(2))
    await first.close()
    await first.close()
    assert in_use() == 1, "the second still looks through it"
    await second.close()
    assert in_use() == 0


async def test_who_has_let_go_is_woken_no_more() -> None:
    server: Any = None
    mirror: Mirror[Pod] = Mirror(server, PODS, parse_pod)
    woken: list[str] = []
    actuators: list[SharedActuator] = []
    for name in ("first", "second"):
        actuator = shared_actuator({"context": "c"}, MemoryIntentStore())
        actuator.on_change(name, OFFER, lambda name=name: woken.append(name))  # type: ignore[misc]
        mirror.listen("s", actuator._lookout._wakes[name, OFFER.name])
        actuator._lookout._heard.add(mirror)
        actuators.append(actuator)
    await actuators[0].close()
    mirror.keep({"metadata": {"uid": "u", "name": "p", "namespace": "s", "creationTimestamp": "2026-11-22T10:00:00Z"}})
    assert woken == ["second"]
    await actuators[1].close()


async def test_who_takes_over_after_a_lease_was_lost_is_woken_in_place_of_who_had_it() -> None:
    server: Any = None
    mirror: Mirror[Pod] = Mirror(server, PODS, parse_pod)
    actuator, woken = shared_actuator({"context": "c"}, MemoryIntentStore()), []
    for name in ("before", "after"):
        actuator.on_change("f", OFFER, lambda name=name: woken.append(name))  # type: ignore[misc]
        mirror.listen("s", actuator._lookout._wakes["f", OFFER.name])
        actuator._lookout._heard.add(mirror)
    mirror.keep({"metadata": {"uid": "u", "name": "p", "namespace": "s", "creationTimestamp": "2026-11-22T10:00:00Z"}})
    assert woken == ["after"]
    await actuator.close()
