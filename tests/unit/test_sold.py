"""What is orphaned: held for an offer that nobody names any more, in the name of a fleet that is or was ours."""

from dataclasses import replace

import pytest

from actuators.holdings import RESERVATION, SLOT, Owned
from actuators.sold import Orphans, Sold, one_per_address, orphans_among, sold_by
from controlplane.contracts.fleet import Guard, Mode, Offer
from tests.unit.decide_stories import BURST, RESERVED, fleet_of

NOW, HOUR, DAY = 1_800_000_000.0, 3600.0, 86400.0
SIM = {"sim": "http://s"}
AWS = {"region": "us-east-1", "instance_types": ("p5en.48xlarge",), "launch_template": "serve"}


def record(fleet: str, offer: str, seen_ago: float = 0.0, *, ends: bool = False) -> Sold:
    return Sold(fleet, offer, "aws", "", AWS, ends, NOW - seen_ago)


def found(
    owned: Owned, *records: Sold, policies: dict[str, bool] | None = None, ours: set[tuple[str, str]] | None = None, place: str = ""
) -> list[Orphans]:
    """Return what is orphaned where the first record's supplier is, or at another place."""
    return orphans_among([owned], place or records[0].place, records, ours or set(), policies or {}, NOW, 900.0, DAY)


def held(fleet: str, offer: str, ago: float = 2 * HOUR, form: str = "") -> Owned:
    return Owned(fleet, offer, "i-1", NOW - ago, form)


def test_what_a_policy_names_is_its_actuators() -> None:
    assert found(held("r1", "rented"), record("r1", "rented"), policies={"r1": True}) == []


def test_what_another_process_names_is_wanted_there() -> None:
    assert found(held("r2", "rented"), record("r2", "rented", 600.0)) == []


def test_what_carries_a_name_that_this_installation_never_had_is_somebody_elses() -> None:
    assert found(held("theirs", "rented"), record("r1", "rented"), policies={"r1": True}) == []


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("aws", {"region": "us-east-1"}, {"region": "eu-west-1"}),
        ("simulated", {"url": "http://one"}, {"url": "http://two"}),
        ("market", {"runpod": {"url": "http://one"}}, {"runpod": {"url": "http://two"}}),
    ],
    ids=["another region", "another cloud", "another address of a market's supplier"],
)
def test_what_an_offer_left_behind_when_it_moved_is_orphaned(kind: str, before: dict[str, object], after: dict[str, object]) -> None:
    """Its actuator looks where the offer is now, and nobody else looks where it was."""
    old, new = (
        Sold("r1", "rented", kind, "runpod" if kind == "market" else "", options, seen_unix=NOW - ago)
        for options, ago in ((before, HOUR), (after, 0.0))
    )
    assert old.key != new.key, "one record does not displace the other"
    assert found(held("r1", "rented"), old, new, policies={"r1": True})[0].may_end
    assert found(held("r1", "rented"), new, old, policies={"r1": True}) == []


def test_two_names_of_one_place_make_nothing_an_orphan() -> None:
    """Both list the machines of both; an offer was never named at the other's, so nothing can have been left there."""
    one, other = (
        Sold("r1", offer, "simulated", "", {"url": url}, seen_unix=NOW) for offer, url in (("a", "http://one"), ("b", "http://1"))
    )
    assert found(held("r1", "a"), other, one, policies={"r1": True}) == []
    slash = Sold("r1", "a", "simulated", "", {"url": "http://one/"}, seen_unix=NOW)
    assert slash.key == one.key


def test_another_way_to_the_same_machines_is_no_other_place() -> None:
    """Keys are rotated, and the same account may hold many offers: only the address tells for certain that machines are others."""
    markets = [
        Sold("r1", "rented--lambda", "market", "lambda", {"lambda_": {"url": "http://l", "api_key_env": name}}) for name in ("OLD", "NEW")
    ]
    assert len({one.place for one in markets}) == len({one.key for one in markets}) == 1
    assert len({one.address for one in markets}) == 2


@pytest.mark.parametrize(
    ("purchase", "form", "kept"),
    [
        ("onDemand", "", True),
        ("onDemand", RESERVATION, False),
        ("capacityReservation", RESERVATION, True),
        ("capacityReservation", "", True),
        ("spot", RESERVATION, False),
        ("capacityBlock", SLOT, True),
        ("capacityBlock", "", False),
    ],
)
def test_what_an_earlier_purchase_option_of_an_offer_left_behind_is_orphaned(purchase: str, form: str, kept: bool) -> None:
    """The actuator of the new option does not look at it."""
    sold = Sold("r1", "rented", "aws", "", {**AWS, "purchase": purchase}, seen_unix=NOW)
    orphans = found(held("r1", "rented", form=form), sold, policies={"r1": True})
    assert [one.may_end for one in orphans] == ([] if kept else [True])


@pytest.mark.parametrize("ends", [False, True])
def test_an_offer_that_a_policy_names_no_longer_is_orphaned_and_ended_as_it_says(ends: bool) -> None:
    orphan = found(held("r1", "old"), record("r1", "old", HOUR), policies={"r1": ends})[0]
    assert (orphan.ids, orphan.since_unix, orphan.may_end) == (("i-1",), NOW - 2 * HOUR, ends)


def test_what_was_bought_a_moment_ago_is_not_ended() -> None:
    assert not found(held("r1", "old", ago=60.0), record("r1", "old", HOUR), policies={"r1": True})[0].may_end


@pytest.mark.parametrize(("seen_ago", "ends", "may_end"), [(HOUR, True, False), (2 * DAY, True, True), (2 * DAY, False, False)])
def test_a_fleet_that_no_process_runs_is_ended_after_a_day_as_its_last_policy_says(seen_ago: float, ends: bool, may_end: bool) -> None:
    """Within the day whoever runs it may only be down."""
    orphan = found(held("r2", "rented"), record("r2", "rented", seen_ago, ends=ends), policies={"r1": True})[0]
    assert orphan.may_end is may_end


def test_a_fleet_of_which_only_purchases_are_remembered_is_reported_and_never_ended() -> None:
    orphan = found(held("r3", "rented"), ours={("r3", "rented")}, policies={"r1": True}, place="aws us-east-1")[0]
    assert (orphan.fleet, orphan.may_end, orphan.is_silent) == ("r3", False, False)


def test_a_record_survives_as_text_and_holds_neither_bootstrap_nor_stores() -> None:
    options = {**AWS, "secret": print, "template_values": {"token": "t"}, "readiness": {"url": "http://{ip}", "within": 60.0}}
    fleet = fleet_of(replace(BURST, actuator="aws", actuator_options=options))
    (sold,) = sold_by(fleet, NOW)
    again = Sold.load(sold.dump())
    assert (again.fleet, again.offer, again.address, again.seen_unix) == ("r1", "burst", "aws us-east-1", NOW)
    assert not {"secret", "template_values"} & again.options.keys()


def test_a_record_of_a_market_holds_the_way_in_and_nothing_of_what_is_rented_there() -> None:
    """So no argument of a container gets into it, and two offers of one account are asked for once."""
    way = {"url": "http://r", "api_key_env": "KEY", "api_key_file": None}
    pods = [{**way, "gpu_type": kind, "args": "--token hf_x", "readiness": {"url": "http://{id}"}} for kind in ("H200", "B200")]
    offers = [
        replace(
            BURST, name=f"offer-{at}", actuator="market", actuator_options={"suppliers": ("runpod", "sim"), "runpod": pod, "simulated": SIM}
        )
        for at, pod in enumerate(pods)
    ]
    records = sold_by(fleet_of(*offers), NOW)
    assert [one.name for one in records] == ["runpod", "sim", "runpod", "sim"]
    assert not any("hf_x" in one.dump() or "H200" in one.dump() for one in records)
    assert len(one_per_address(records)) == 2
    for one in one_per_address(records):
        assert Sold.load(one.dump()).supplier({"KEY": "k"}.get)


@pytest.mark.parametrize(("mode", "frozen", "ends"), [(Mode.ACT, False, True), (Mode.RECOMMEND, False, False), (Mode.ACT, True, False)])
def test_orphans_are_ended_only_by_a_fleet_that_acts(mode: Mode, frozen: bool, ends: bool) -> None:
    fleet = fleet_of(replace(BURST, actuator="aws", actuator_options=AWS))
    fleet = replace(fleet, guard=Guard(mode=mode, frozen=frozen, ends_orphans=True))
    assert [sold.ends_orphans for sold in sold_by(fleet)] == [ends]


@pytest.mark.parametrize(
    ("offer", "bought_as"),
    [
        (replace(BURST, actuator="aws", actuator_options=AWS), ["burst"]),
        (replace(BURST, actuator="simulated", actuator_options={"url": "http://cloud", "pool": "nodes"}), ["nodes"]),
        (replace(BURST, actuator="market", actuator_options={"suppliers": ("lambda", "runpod")}), ["burst--lambda", "burst--runpod"]),
    ],
    ids=["aws", "simulated", "each part of a market"],
)
def test_what_an_offer_holds_that_can_no_longer_serve_is_left_alone(offer: Offer, bought_as: list[str]) -> None:
    fleet = replace(fleet_of(RESERVED), ineligible={"burst": "the model does not fit"}, ineligible_offers=(offer,))
    records = sold_by(fleet, NOW)
    assert [one.offer for one in records] == bought_as
    assert [orphan for one in records for orphan in found(held("r1", one.offer), one, *records, policies={"r1": True})] == []


def test_what_lists_the_same_is_asked_once_by_the_newest_way_in() -> None:
    markets = [
        Sold("r1", f"rented--{name}", "market", name, {"suppliers": ["lambda"], "lambda_": {"url": name}}, seen_unix=seen)
        for name, seen in (("lambda", 1.0),)
    ]
    asked = one_per_address([record("r1", "old", DAY), record("r1", "rented"), record("r2", "rented", HOUR), *markets])
    assert [(one.fleet, one.offer) for one in asked] == [("r1", "rented"), ("r1", "rented--lambda")]
