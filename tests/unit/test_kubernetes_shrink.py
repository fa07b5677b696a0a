"""Which replicas go first, and what a workload's pods amount to: the choice and the count, without a cluster."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actuators.kubernetes.actuator import in_lots
from actuators.kubernetes.options import target_of
from actuators.kubernetes.pods import Pod, PodState
from actuators.kubernetes.shrink import CHEAPEST, GROUP_INDEX, Leaving, dropped, goes_by_ordinal, is_ours, leaving, serving_lost
from actuators.kubernetes.status import census, census_of_status, pool_status
from controlplane.contracts.fleet import Offer, Tier


def pod(name: str, state: PodState = PodState.READY, node: str = "n", **more: Any) -> Pod:
    fields = {"labels": {}, "created_unix": 0.0, "gpus": 4, "owner_kind": "ReplicaSet", **more}
    return Pod(name, "s", name, state=state, reason="", node=node if state is not PodState.UNSCHEDULABLE else "", **fields)


def names(pods: list[Pod], count: int, held: dict[str, int] | None = None) -> list[str]:
    return [each.name for each in leaving(pods, count, held or {}).pods]


def test_what_does_not_serve_goes_before_what_does() -> None:
    pods = [
        pod("ready"),
        pod("starting", PodState.STARTING),
        pod("waiting", PodState.WAITING),
        pod("stuck", PodState.UNSCHEDULABLE),
        pod("failed", PodState.FAILED),
    ]
    assert names(pods, 5) == ["failed", "stuck", "waiting", "starting", "ready"]


def test_the_idle_go_before_the_busy_and_the_young_before_the_old() -> None:
    pods = [pod("busy", in_flight=3.0, created_unix=9.0), pod("old", created_unix=1.0), pod("young", created_unix=5.0)]
    assert names(pods, 2) == ["young", "old"]


def test_a_whole_node_is_emptied_before_two_are_opened_up() -> None:
    pods = [pod("a1", node="a"), pod("a2", node="a"), pod("b1", node="b", created_unix=9.0), pod("c1", node="c", created_unix=9.0)]
    held = {"a": 8, "b": 8, "c": 8}
    assert sorted(names(pods, 2, held)) == ["a1", "a2"], "b and c are held by others too, so they could not be given back"
    assert names(pods, 1, held) == ["b1"], "one alone empties no node, so the youngest goes"


def test_a_node_that_cannot_be_emptied_whole_waits_for_one_that_can() -> None:
    pods = [pod("a1", node="a"), pod("a2", node="a"), pod("a3", node="a"), pod("b1", node="b")]
    assert names(pods, 1, {"a": 12, "b": 4}) == ["b1"]
    assert sorted(names(pods, 3, {"a": 12, "b": 4}))[0] == "a1"


def test_costs_are_written_once_and_taken_back_from_those_that_stay() -> None:
    marked = pod("marked", deletion_cost=CHEAPEST, in_flight=5.0)
    pods = [marked, pod("idle"), pod("theirs", deletion_cost=100, in_flight=9.0)]
    assert leaving(pods, 1, {}).costs == {"idle": CHEAPEST, "marked": None}
    assert leaving([pod("idle", deletion_cost=CHEAPEST), pod("other", in_flight=1.0)], 1, {}).costs == {}
    assert not is_ours(100)
    assert not is_ours(None)


def test_a_stateful_set_drops_the_highest_ordinal_however_busy_it_is() -> None:
    numbered = [pod(f"r-{number}", owner_kind="StatefulSet", in_flight=float(number)) for number in (9, 0, 11, 10)]
    assert goes_by_ordinal(numbered)
    going = dropped(numbered, 10)
    assert [each.name for each in going.pods] == ["r-11", "r-10"]
    assert (going.in_flight, going.costs) == (21.0, {})
    assert [each.name for each in dropped([*numbered[:1], pod("r-2", PodState.DRAINING)], 1).pods] == ["r-9"]


def test_a_leader_worker_set_drops_its_highest_group() -> None:
    groups = [pod(f"big-{group}", labels={GROUP_INDEX: str(group)}, owner_kind="StatefulSet") for group in range(3)]
    assert [each.name for each in dropped(groups, 2).pods] == ["big-2"]


@pytest.mark.parametrize(
    ("owner_kind", "states", "asked", "wanted", "lost"),
    [
        ("ReplicaSet", "-+++", 4, 3, 0),
        ("ReplicaSet", "-+++", 4, 2, 1),
        ("ReplicaSet", "++++", 3, 2, 1),
        ("ReplicaSet", "+++", 5, 3, 0),
        ("StatefulSet", "-+++", 4, 3, 1),
        ("StatefulSet", "+++-", 4, 3, 0),
        ("StatefulSet", "+++-", 4, 2, 1),
        ("StatefulSet", "++++", 3, 2, 1),
    ],
)
def test_what_serves_is_lost_where_its_controller_lets_it_go(owner_kind: str, states: str, asked: int, wanted: int, lost: int) -> None:
    by = {"-": PodState.STARTING, "+": PodState.READY}
    pods = [pod(f"r-{number}", by[state], owner_kind=owner_kind) for number, state in enumerate(states)]
    assert serving_lost(pods, asked, wanted, 0) == lost, "those beyond what is asked for are told to go already"


def test_in_a_rollout_nobody_knows_from_which_generation_the_deployment_takes_it() -> None:
    pods = [*(pod(f"old-{number}", owner="old") for number in range(3)), pod("new", PodState.STARTING, owner="new")]
    assert serving_lost(pods, 4, 3, 0) == 1
    assert serving_lost(pods, 4, 0, 0) == 3


def test_what_has_no_ordinal_goes_by_cost_and_only_a_replica_set_is_told_so() -> None:
    assert not goes_by_ordinal([pod("r1-5f4-abcde")])
    assert not goes_by_ordinal([pod("x-abcde", owner_kind="CloneSet")])
    assert leaving([pod("x-abcde", owner_kind="CloneSet")], 1, {}).costs == {}


def test_who_began_to_drain_goes_on_whoever_is_busy_now_and_is_marked_once() -> None:
    begun = pod("begun", draining_since_unix=5.0, deletion_cost=CHEAPEST + 3, in_flight=9.0, node="a")
    pods = [pod("idle", node="b"), begun, pod("calm", node="b", in_flight=1.0)]
    assert leaving(pods, 1, {"a": 8, "b": 8}) == Leaving((begun,), {}), "no new victim, and no annotation to write"
    assert names(pods, 2, {"a": 8, "b": 8}) == ["begun", "idle"]


@given(
    states=st.lists(st.sampled_from([*PodState]), max_size=12),
    nodes=st.lists(st.sampled_from("abc"), min_size=12, max_size=12),
    count=st.integers(0, 14),
)
def test_as_many_go_as_should_and_none_of_those_that_are_gone_already(states: list[PodState], nodes: list[str], count: int) -> None:
    pods = [pod(f"p{number}", state, nodes[number]) for number, state in enumerate(states)]
    counted = [each for each in pods if each.is_counted]
    going = leaving(pods, count, dict.fromkeys("abc", 16)).pods
    assert len(going) == min(count, len(counted))
    assert len({each.name for each in going}) == len(going)
    serving = [each for each in going if each.state is PodState.READY]
    left = [each for each in counted if each not in going]
    assert not serving or all(each.state is PodState.READY for each in left), "nothing that serves goes while something idle stays"


def test_a_census_counts_what_is_asked_for_and_has_no_pod_as_pending() -> None:
    pods = [
        pod("a", ready_unix=60.0),
        pod("b", created_unix=100.0, ready_unix=190.0),
        pod("c", PodState.STARTING),
        pod("d", PodState.UNSCHEDULABLE),
        pod("e", PodState.FAILED),
        pod("f", PodState.DRAINING),
        pod("g", PodState.FINISHED),
    ]
    counted = census(7, pods)
    assert (counted.ready, counted.pending, counted.unschedulable, counted.failed, counted.draining) == (2, 4, 1, 1, 1)
    assert counted.lead_time_seconds == 90.0, "of the newest that serves"
    assert counted.stuck == 2


def test_a_replica_on_a_node_that_is_gone_is_no_supply() -> None:
    counted = census(2, [pod("a", node="gone"), pod("b", node="here")], frozenset({"here"}))
    assert (counted.ready, counted.failed, counted.pending) == (1, 1, 0)
    assert counted.reasons == ("1 failed: node gone is gone",)
    assert counted.failed_on_nodes == 0


def test_what_its_controller_may_not_create_is_no_supply() -> None:
    counted = census(4, [pod("a"), pod("b", PodState.STARTING)], None, "exceeded quota")
    assert (counted.ready, counted.pending, counted.failed, counted.stuck) == (1, 1, 2, 2)
    assert counted.failed_on_nodes == 0
    assert "2 not created: exceeded quota" in counted.reasons
    assert census(1, [pod("a")], None, "exceeded quota").failed == 0, "nothing is missing"


def test_while_it_shrinks_what_is_not_gone_yet_is_still_ready() -> None:
    counted = census(1, [pod("a"), pod("b"), pod("c")])
    assert (counted.ready, counted.pending) == (3, 0)


def test_a_rollouts_surge_is_not_taken_for_growth() -> None:
    counted = census(2, [pod("a"), pod("b"), pod("new", PodState.STARTING)])
    assert (counted.ready, counted.pending) == (2, 0)


def test_what_a_rollout_surges_to_is_not_held_beyond_what_is_asked_for() -> None:
    counted = census(2, [pod("a", owner="r1-old"), pod("b", owner="r1-old"), pod("new", owner="r1-new")])
    assert (counted.ready, counted.pending) == (2, 0)


OFFER = Offer("own", Tier.FLOOR, 1.0, 0, 8, 1.0, 60.0, actuator_options={"name": "r1"})


def test_the_status_says_what_keeps_replicas_from_serving() -> None:
    counted = census(3, [pod("a", PodState.STARTING), pod("b", PodState.UNSCHEDULABLE), pod("c", PodState.FAILED)])
    status = pool_status("f", OFFER, counted, 0.0, notes=("yields to kubectl-edit",))
    assert status.message.startswith("yields to kubectl-edit; 1 failed")
    assert (status.pending, status.unschedulable, status.unavailable) == (2, 1, True)
    assert status.failed_replicas == 1, "it serves nothing, and its node is paid"
    assert pool_status("f", OFFER, census_of_status(3, 2), 0.0).pending == 1


def test_the_status_says_since_when_replicas_start_and_what_the_last_took() -> None:
    served = pod("a", created_unix=0.0, placed_unix=4.0, running_unix=99.0, ready_unix=312.0)
    loading = [pod("b", PodState.STARTING, running_unix=3600.0), pod("c", PodState.STARTING, running_unix=3700.0)]
    pulling = replace(pod("d", PodState.STARTING, placed_unix=3661.0), reason="image")
    assert census(4, [served, *loading, pulling]).reasons == (
        "2 loading weights since 01:00:00Z",
        "1 pulling the image since 01:01:01Z",
        "the last took 312 s: 4 s for a node, 95 s for the image, 213 s for weights",
    )
    assert census(1, [served]).reasons == (), "nobody asks while nothing starts"
    again = replace(served, running_unix=400.0)
    assert census(2, [again, pulling]).reasons[-1] == "the last took 312 s", "it ran anew since: the parts are another start's"
    assert census(1, [loading[0]]).reasons == ("1 loading weights since 01:00:00Z",)


def test_what_served_and_is_not_ready_now_does_not_load_weights() -> None:
    blip = pod("a", PodState.STARTING, ready_unix=300.0, running_unix=99.0)
    counted = census(1, [blip])
    assert counted.reasons == ("1 served, and is not ready now",)
    assert counted.lead_time_seconds == 300.0, "how long it took is what it took at first"


@pytest.mark.parametrize(
    ("asked", "target", "lot", "wanted"), [(0, 10, 4, 8), (8, 3, 4, 4), (8, 8, 4, 8), (6, 7, 1, 7), (7, 0, 1, 0), (4, 7, 4, 4)]
)
def test_numbers_move_in_whole_lots(asked: int, target: int, lot: int, wanted: int) -> None:
    assert in_lots(asked, target, lot) == wanted


@pytest.mark.parametrize(
    ("tier", "options", "is_fixed"),
    [(Tier.FLOOR, {}, True), (Tier.BURST, {}, False), (Tier.FLOOR, {"nodes": "elastic"}, False), (Tier.BURST, {"nodes": "fixed"}, True)],
)
def test_a_floors_pool_is_fixed_and_bursts_grow_unless_it_is_said(tier: Tier, options: dict[str, object], is_fixed: bool) -> None:
    offer = Offer("o", tier, 1.0, 0, 8, 1.0, 60.0, actuator_options={"name": "r1", **options})
    assert target_of(offer).is_fixed_pool is is_fixed
    assert str(target_of(offer)) == "Deployment default/r1"
