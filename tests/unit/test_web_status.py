"""What is shown: the status API, /metrics, and the page, from the events that a running tidegate says."""

import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.contracts.events import Actuation, Decision, Forecast, Launch, Observation, Outcome, PoolStatus, Quote, Reason, Tick
from controlplane.contracts.fleet import Mode, Tier
from controlplane.contracts.units import from_unix
from controlplane.web.metrics import Meter, WorkFigures
from tests.unit.web_rig import Rig, alertmanager, sent

NOW = 1_700_000_000.0


def decision(number: int = 0, rented: int = 3, cause: str = "schedule") -> Decision:
    return Decision(
        time=from_unix(NOW + number),
        fleet="r1",
        mode=Mode.ACT,
        expires=from_unix(NOW + number + 60),
        targets={"reserved": 2, "rented": rented},
        tiers={"reserved": Tier.FLOOR, "rented": Tier.BURST},
        cause=cause,
        reasons=(Reason.LAYER_PAYS,),
        demand_per_second=17.0,
        demand_quantiles={"0.05": 10.0, "0.5": 16.0, "0.95": 25.0, "0.99": 31.0},
        summary="demand 17.0/s: rented 0→3 (LAYER_PAYS)",
    )


def told() -> Rig:
    rig = Rig()
    for event in (
        Observation(
            time=from_unix(NOW),
            fleet="r1",
            demand_per_second=17.0,
            spilled_per_second=2.0,
            ttft_attained_share=0.97,
            coverage=0.5,
            flags=("partial",),
        ),
        PoolStatus(time=from_unix(NOW), fleet="r1", offer="reserved", ready=2),
        PoolStatus(time=from_unix(NOW), fleet="r1", offer="rented", ready=1, pending=2, unavailable=True),
        Quote(time=from_unix(NOW), offer="rented", usd_per_replica_hour=7.5, stock_replicas=4),
        Tick(time=from_unix(NOW), cause="alert", fleet="r1"),
        decision(),
        Actuation(time=from_unix(NOW), fleet="r1", offer="rented", decision="d", outcome=Outcome.APPLIED, target=3, before=0, change=3),
        Observation(time=from_unix(NOW), fleet="not-ours", demand_per_second=1.0),
    ):
        rig.board.hear(event)
        rig.meter.hear(event)
    return rig


async def test_the_status_tells_targets_pools_prices_and_spill() -> None:
    rig = told()
    (fleet,) = (await rig.ask("GET", "/api/fleets")).json()["fleets"]
    reserved, rented = fleet["offers"]
    assert (reserved["target"], reserved["ready"], reserved["usd_per_replica_hour"]) == (2, 2, 3.0)
    assert (rented["target"], rented["ready"], rented["pending"], rented["unavailable"]) == (3, 1, 2, True)
    assert (rented["usd_per_replica_hour"], rented["stock_replicas"]) == (7.5, 4)
    assert fleet["decision"]["reasons"] == ["LAYER_PAYS"]
    assert (fleet["slo"]["ttft_attained_share"], fleet["slo"]["itl_attained_share"]) == (0.97, None)
    assert fleet["slo"]["attainment"] == rig.intake.fleets["r1"].slo.attainment


async def test_one_fleet_comes_with_its_forecast_and_its_past() -> None:
    rig = told()
    rig.forecast = Forecast(
        time=from_unix(NOW),
        fleet="r1",
        observed=from_unix(NOW),
        horizons_seconds=(60.0,),
        quantiles=(0.5,),
        demand_per_second=((16.0,),),
        peak_per_second=((16.0,),),
    )
    fleet = (await rig.ask("GET", "/api/fleets/r1")).json()
    assert fleet["forecast"]["demand_per_second"] == [[16.0]]
    (point,) = fleet["points"]
    assert point["capacity"] == {"floor": 8.0, "burst": 4.0}
    assert (point["demand"], point["spilled"], point["band"]) == (17.0, 2.0, [10.0, 16.0, 25.0])
    assert [made["change"] for made in fleet["actuations"]] == [3]
    assert (await rig.ask("GET", "/api/fleets/not-ours")).status_code == 404


async def test_decisions_that_say_nothing_new_are_not_listed_and_memory_is_bounded() -> None:
    rig = Rig()
    for number in range(2000):
        rig.board.hear(decision(number, rented=3 if number < 1999 else 4))
    detail = rig.board.detail("r1", NOW)
    assert [made["targets"]["rented"] for made in detail["decisions"]] == [4, 3]
    assert len(detail["points"]) == 720
    for number in range(2000):
        rig.board.hear(decision(number, cause="alert"))
    assert len(rig.board.detail("r1", NOW)["decisions"]) == 50


async def test_an_alert_is_shown_for_as_long_as_it_acts() -> None:
    rig = Rig()
    await rig.alert(alertmanager(sent(action="lift", expires="10m")))
    rig.board.hear(rig.outlet.alerts[0])
    assert len(rig.board.summary("r1", NOW + 599.0)["alerts"]) == 1
    assert rig.board.summary("r1", NOW + 601.0)["alerts"] == []


async def test_launches_of_longer_ago_than_a_wave_lasts_are_not_shown_once_another_is_announced() -> None:
    rig = Rig()
    for day in range(40):
        now, starts = from_unix(NOW + day * 86400.0), from_unix(NOW + (day + 0.5) * 86400.0)
        rig.board.hear(Observation(time=now, fleet="r1", demand_per_second=17.0))
        rig.board.hear(Launch(time=now, fleet="r1", name=f"v{day}", starts=starts))
    assert [launch["name"] for launch in rig.board.detail("r1", NOW)["launches"]] == [f"v{day}" for day in range(29, 40)]


async def test_before_anything_was_heard_nothing_is_zero() -> None:
    (fleet,) = (await Rig().ask("GET", "/api/fleets")).json()["fleets"]
    assert fleet["decision"] is None
    assert {offer["ready"] for offer in fleet["offers"]} == {None}


async def test_metrics_say_what_was_seen_decided_and_done() -> None:
    rig = told()
    await rig.alert(alertmanager(sent()))
    text = (await rig.ask("GET", "/metrics")).text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["tidegate_demand_per_second", "r1"] == 17.0
    assert samples["tidegate_observation_coverage_ratio", "r1"] == 0.5
    assert samples["tidegate_observation_flags_total", "partial", "r1"] == 1.0
    assert samples["tidegate_replicas", "pending", "r1", "rented"] == 2.0
    assert samples["tidegate_target_replicas", "burst", "r1", "rented"] == 3.0
    assert samples["tidegate_offer_unavailable", "r1", "rented"] == 1.0
    assert samples["tidegate_decisions_total", "r1", "schedule"] == 1.0
    assert samples["tidegate_decision_reasons_total", "LAYER_PAYS", "r1"] == 1.0
    assert samples["tidegate_forecast_demand_per_second", "0.99", "r1"] == 31.0
    assert samples["tidegate_actuated_replicas_total", "r1", "rented", "up"] == 3.0
    assert samples["tidegate_http_requests_total", "200", "webhooks"] == 1.0
    assert samples["tidegate_webhook_alerts_total", "accepted", "alertmanager"] == 1.0
    assert samples["tidegate_slo_attained_ratio", "r1", "ttft"] == 0.97
    backlog = samples["tidegate_backlog", "r1"]
    assert backlog != backlog  # not known is NaN, never zero


def test_metrics_of_works_are_read_when_asked() -> None:
    figures = [WorkFigures("planner", "r1", True, 12, 1, 3), WorkFigures("actuator", "r1", False)]
    meter = Meter("1.2.3", lambda: tuple(figures), lambda: False)
    text = meter.text().decode()
    assert 'tidegate_fold_messages_total{fleet="r1",service="planner"} 12.0' in text
    assert 'tidegate_fold_lag_messages{fleet="r1",service="planner"} 3.0' in text
    assert 'tidegate_service_active{fleet="r1",service="actuator"} 0.0' in text
    assert "tidegate_nats_connected 0.0" in text
    assert 'tidegate_build_info{version="1.2.3"} 1.0' in text


def test_metric_names_follow_the_conventions() -> None:
    for family in text_string_to_metric_families(told().meter.text().decode()):
        assert family.name.startswith("tidegate_")
        assert family.documentation.endswith(".")
        assert family.type != "counter" or all(sample.name.endswith("_total") for sample in family.samples)


async def test_the_status_explains_every_reason_that_a_decision_may_have() -> None:
    told_words = (await told().ask("GET", "/api/fleets/r1")).json()["reason_words"]
    assert set(told_words) == set(Reason)
    assert all(told_words.values())


async def test_the_page_brings_all_that_it_needs_and_no_data() -> None:
    rig = told()
    page = await rig.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("page.css", "page.js"):
        assert name in page.text
        assert (await rig.ask("GET", f"/{name}")).status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "r1" not in page.text


@pytest.mark.needs("prometheus")
def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    checked = subprocess.run(["promtool", "check", "metrics"], input=told().meter.text(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
