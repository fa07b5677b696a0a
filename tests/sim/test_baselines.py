"""The peers do what their documentation says: told as small stories."""

from dataclasses import replace

import numpy as np
import pytest

from controlplane.contracts.fleet import Fleet, Offer, Slo, Spill, Tier, Unit
from controlplane.contracts.frame import Frame
from controlplane.contracts.units import from_unix
from controlplane.sim.baselines_hpa import Hpa, WindowMaximum, comparisons, peak_minute, without_floor
from controlplane.sim.baselines_peers import PEERS, Peer
from controlplane.sim.scaler import UNLIMITED_PER_SECOND, Scaler, fill_offers
from controlplane.sim.workload import Workload

BURST = Offer("burst", Tier.BURST, 10.0, 0, 100, 36.0, 480.0)
PEER = {peer.name: peer for peer in PEERS}
FLEET = Fleet("f", Slo(0.995, ttft_seconds=5.0), Unit.REQUESTS, (BURST,), spill=Spill("hosted", 0.003), tick_seconds=15.0)


def told(scaler: Scaler, *story: tuple[float, float | None, int]) -> list[int | None]:
    """Tell (second, demand, ready burst replicas) and return the burst targets."""
    frames = [Frame(fleet="f", time=from_unix(at), demand=demand, ready={"burst": ready}) for at, demand, ready in story]
    return [scaler.decide(frame).targets.get("burst") for frame in frames]


def test_hpa_is_the_ceiling_of_current_times_metric_over_target() -> None:
    assert told(Hpa(FLEET), (0, 70, 4)) == [10 - 2]  # 10 wanted, doubling from 4 is the most in one sync
    assert told(Hpa(FLEET), (0, 56, 4)) == [8]
    assert told(Hpa(FLEET), (0, 57, 5)) == [9]


def test_hpa_stays_within_its_tolerance() -> None:
    assert told(Hpa(FLEET), (0, 76, 10)) == [10]
    assert told(Hpa(FLEET), (0, 78, 10)) == [12]


def test_hpa_shrinks_to_the_highest_of_its_stabilization_window() -> None:
    scaler = Hpa(FLEET)
    assert told(scaler, (0, 70, 10), (15, 35, 10), (300, 35, 10), (316, 35, 10)) == [10, 10, 10, 5]


def test_hpa_makes_up_for_the_syncs_that_passed_between_frames() -> None:
    assert told(Hpa(FLEET), (0, 7, 1), (60, 700, 1)) == [1, 40]  # four syncs: 5, 10, 20, 40
    assert told(Hpa(FLEET), (0, 7, 1), (15, 700, 1)) == [1, 5]


def test_hpa_without_a_metric_stays_where_it_is_and_lets_the_naive_router_spill() -> None:
    line = Hpa(FLEET).decide(Frame(fleet="f", time=from_unix(0), demand=None))
    assert line.targets == {}
    assert line.spill_per_second == UNLIMITED_PER_SECOND


def test_the_window_keeps_the_largest_of_its_span() -> None:
    window = WindowMaximum(10.0)
    assert [window.push(at, value) for at, value in [(0, 5), (5, 3), (10, 2), (11, 1), (16, 1), (22, 1)]] == [5, 5, 5, 3, 2, 1]


def test_offers_are_filled_floor_first_then_the_cheapest_work() -> None:
    floor = Offer("reserved", Tier.FLOOR, 10.0, 0, 3, 16.0, 180.0)
    fast = replace(BURST, name="fast", capacity_per_second=25.0, usd_per_replica_hour=60.0, max_replicas=2)
    fleet = replace(FLEET, offers=(floor, BURST, fast))
    assert fill_offers(fleet, 20.0) == {"reserved": 3, "fast": 0, "burst": 0}
    assert fill_offers(fleet, 70.0) == {"reserved": 3, "fast": 2, "burst": 0}
    assert fill_offers(fleet, 101.0) == {"reserved": 3, "fast": 2, "burst": 3}
    lots = replace(fleet, offers=(replace(BURST, replicas_per_lot=4),))
    assert fill_offers(lots, 41.0) == {"burst": 8}


def test_renting_everything_lets_burst_grow_by_the_floor() -> None:
    floor = Offer("reserved", Tier.FLOOR, 10.0, 0, 3, 16.0, 180.0)
    fleet = without_floor(replace(FLEET, offers=(floor, BURST)))
    assert [(offer.name, offer.max_replicas) for offer in fleet.offers] == [("burst", 103)]
    assert fleet.spill is None


def test_the_comparisons_are_the_hpa_with_and_without_spill_renting_all_and_the_peak() -> None:
    offered = np.full(80, 20.0)
    offered[40:44] = 90.0
    work = Workload("w", 0.0, 15.0, offered, np.ones(80, dtype=np.bool_))
    names = [other.name for other in comparisons(FLEET, work)]
    assert names == ["HPA 70%", "HPA 70% + naive spill", "all on demand, HPA 70%", "static peak"]
    assert [other.name for other in comparisons(replace(FLEET, spill=None), work)] == [names[0], *names[2:]]
    assert peak_minute(work) == pytest.approx(90.0)


def test_keda_takes_an_empty_answer_for_zero() -> None:
    assert told(PEER["KEDA"].make(FLEET, 0.7), (0, 70, 10), (15, None, 10), (60, None, 10), (400, None, 10))[-1] == 0


def test_knative_panics_at_twice_what_is_ready_and_does_not_shrink_in_panic() -> None:
    scaler = PEER["Knative KPA"].make(FLEET, 0.5)
    assert told(scaler, (0, 10, 2), (15, 100, 2), (30, 10, 2), (60, 10, 20)) == [2, 20, 20, 20]
    assert told(scaler, (91, 10, 20), (106, 10, 10)) == [10, 5]


def test_ray_serve_grows_at_once_and_shrinks_only_after_ten_minutes() -> None:
    scaler = PEER["Ray Serve"].make(FLEET, 1.0)
    assert told(scaler, (0, 50, 2), (60, 80, 2)) == [None, 8]
    shrinking = [(float(at), 20.0, 8) for at in range(120, 900, 60)]
    assert told(scaler, *shrinking) == [None] * 9 + [2] + [None] * 3


def test_skyserve_waits_five_minutes_to_grow() -> None:
    scaler = PEER["SkyServe"].make(FLEET, 1.0)
    assert told(scaler, *[(float(at), 80.0, 2) for at in range(0, 360, 60)]) == [None, None, None, None, None, 8]


def test_aws_predictive_is_there_before_yesterdays_rise_and_never_shrinks_on_a_forecast() -> None:
    scaler = PEER["AWS predictive"].make(FLEET, 1.0)
    told(scaler, *[(60.0 * minute, 90.0 if 600 < minute <= 720 else 10.0, 1) for minute in range(1, 1440)])
    day = 86400.0
    assert told(scaler, (day + 35640, 10, 1), (day + 35760, 10, 1), (day + 36060, 200, 9)) == [1, 9, 20]


def test_dynamo_plans_every_three_minutes_and_adds_one_under_load() -> None:
    scaler = PEER["Dynamo-like"].make(FLEET, 1.0)
    assert told(scaler, (0, 50, 5), (60, 90, 5), (120, 90, 6), (180, 90, 7)) == [5, 6, 7, 9]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_that_aims_lower_never_holds_less(peer: Peer) -> None:
    story = [(60.0 * minute, 40.0 + 30.0 * (minute % 7), 12) for minute in range(60)]
    lean, ample = told(peer.make(FLEET, 0.9), *story), told(peer.make(FLEET, 0.5), *story)
    held = [(12 if a is None else a, 12 if b is None else b) for a, b in zip(lean, ample, strict=True)]
    assert sum(b for _, b in held) > sum(a for a, _ in held)
