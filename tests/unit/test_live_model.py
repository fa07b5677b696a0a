"""What the live view knows, as stories: events in, numbers out; and that it draws itself at every size, whatever it has heard."""

import io

import pytest
from rich.console import Console

from controlplane.contracts.events import Actuation, Decision, Event, Forecast, Observation, Outcome, PoolStatus, Quote, Reason
from controlplane.contracts.fleet import Fleet, Mode, Offer, Slo, Spill, Tier, Unit
from controlplane.contracts.units import from_unix
from controlplane.live.model import ViewModel
from controlplane.live.plot import Segment, plot
from controlplane.live.view import LiveView

START = 1_715_299_200.0
HOUR = 3600.0
FLEET = Fleet(
    name="f",
    slo=Slo(attainment=0.99, ttft_seconds=2.0),
    unit=Unit.REQUESTS,
    offers=(
        Offer(
            "own", Tier.FLOOR, capacity_per_second=4.0, min_replicas=0, max_replicas=2, usd_per_replica_hour=10.0, lead_time_seconds=60.0
        ),
        Offer(
            "rent", Tier.BURST, capacity_per_second=4.0, min_replicas=0, max_replicas=9, usd_per_replica_hour=30.0, lead_time_seconds=300.0
        ),
    ),
    spill=Spill("hosted", usd_per_unit=0.01),
)


def observation(hours: float, demand: float | None, **rates: float) -> Observation:
    return Observation(fleet="f", time=from_unix(START + hours * HOUR), interval_seconds=300.0, demand_per_second=demand, **rates)


def pool(hours: float, offer: str, ready: int, pending: int = 0) -> PoolStatus:
    return PoolStatus(fleet="f", offer=offer, time=from_unix(START + hours * HOUR), ready=ready, pending=pending)


def decision(hours: float, reasons: tuple[Reason, ...] = (Reason.STEADY,), **targets: int) -> Decision:
    at = from_unix(START + hours * HOUR)
    return Decision(fleet="f", time=at, mode=Mode.ACT, expires=at, targets=targets, reasons=reasons)


def forecast(hours: float, middle: float) -> Forecast:
    rows = tuple((middle * 0.5 * (1 + k), middle * (1 + k), middle * 2.0 * (1 + k)) for k in range(2))
    at = from_unix(START + hours * HOUR)
    return Forecast(
        fleet="f",
        time=at,
        observed=at,
        horizons_seconds=(300.0, 3600.0),
        quantiles=(0.1, 0.5, 0.9),
        demand_per_second=rows,
        peak_per_second=rows,
    )


def heard(*events: Event) -> ViewModel:
    model = ViewModel(FLEET, START)
    for event in events:
        model.hear(event)
    return model


def test_the_floor_is_paid_whole_and_rented_replicas_from_their_request_on() -> None:
    model = heard(pool(0.0, "own", 1), pool(0.0, "rent", 1, pending=1), observation(1.0, 5.0))
    assert model.floor_usd == pytest.approx(20.0)
    assert model.burst_usd == pytest.approx(60.0)


def test_a_quote_changes_the_price_from_its_time_on() -> None:
    quote = Quote(offer="rent", time=from_unix(START + HOUR), usd_per_replica_hour=50.0)
    assert heard(pool(0.0, "rent", 1), quote, observation(2.0, 5.0)).burst_usd == pytest.approx(30.0 + 50.0)


def test_spilled_work_is_paid_by_the_unit_and_counts_as_served() -> None:
    model = heard(observation(1.0, 10.0, served_per_second=7.0, spilled_per_second=2.0, late_per_second=1.0))
    assert model.spill_usd == pytest.approx(2.0 * 300.0 * 0.01)
    assert model.totals.attainment == pytest.approx(0.9)
    assert model.totals.spilled_share == pytest.approx(0.2)


def test_an_older_or_repeated_event_pays_nothing_twice() -> None:
    model = heard(pool(0.0, "rent", 1), observation(1.0, 5.0))
    paid, rows = model.usd, len(model.rows)
    model.hear(observation(1.0, 5.0))
    model.hear(pool(0.5, "rent", 1))
    assert (model.usd, len(model.rows)) == (paid, rows)


def test_unknown_demand_makes_no_row_but_time_goes_on() -> None:
    model = heard(observation(1.0, None))
    assert model.rows == []
    assert model.floor_usd == pytest.approx(20.0)


def test_only_decisions_that_change_a_target_are_listed_with_the_reasons_that_say_something() -> None:
    model = heard(
        decision(0.1, (Reason.FLOOR_IS_SUNK, Reason.LAYER_PAYS, Reason.SPILL_OPEN), own=2, rent=1),
        decision(0.2, own=2, rent=1),
        decision(0.3, (Reason.FLOOR_IS_SUNK,), own=2, rent=0),
    )
    assert [change.moves for change in model.changes] == [(("own", 0, 2), ("rent", 0, 1)), (("rent", 1, 0),)]
    assert [change.reasons for change in model.changes] == [("LAYER_PAYS",), ("FLOOR_IS_SUNK",)]
    assert (model.totals.decisions, model.totals.scale_events, len(model.lines)) == (3, 3, 3)


def test_the_band_is_the_forecast_at_the_lead_time() -> None:
    model = heard(forecast(1.0, 10.0))
    band = model.bands[-1]
    assert (band.time_unix, band.low, band.middle, band.high) == (START + HOUR + 300.0, 5.0, 10.0, 20.0)
    assert len(model.ahead) == 2


def test_capacity_is_that_of_ready_replicas() -> None:
    model = heard(pool(0.0, "own", 2), pool(0.0, "rent", 1, pending=3))
    assert (model.capacity(Tier.FLOOR), model.capacity(Tier.BURST)) == (8.0, 4.0)


def test_a_failure_is_counted_and_events_of_other_fleets_are_not_heard() -> None:
    at = from_unix(START)
    refused = Actuation(fleet="f", time=at, offer="rent", decision="d", outcome=Outcome.FAILED, target=2, before=1, error="no stock")
    model = heard(refused, refused.model_copy(update={"fleet": "g"}))
    assert model.totals.refusals == 1


def test_a_column_is_drawn_in_eighths_with_two_colours_where_they_meet() -> None:
    (line,) = plot([(Segment(4.0, "red"), Segment(8.0, "blue")), (Segment(2.0, "red"),), ()], height=1, ceiling=8.0)
    assert line.plain == "▄▂ "
    meeting = line.spans[0].style
    assert not isinstance(meeting, str)
    assert meeting.color is not None
    assert meeting.bgcolor is not None
    assert (meeting.color.name, meeting.bgcolor.name) == ("red", "blue")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 45), (40, 12), (300, 100)])
@pytest.mark.parametrize("hours", [0, 1, 40])
def test_the_view_fits_every_terminal(width: int, height: int, hours: int) -> None:
    model = heard(pool(0.0, "own", 2), pool(0.0, "rent", 3, pending=1))
    for step in range(hours * 12):
        at = step / 12 + 1 / 12
        model.hear(observation(at, 10.0 + step % 30, spilled_per_second=1.0, late_per_second=0.0))
        model.hear(forecast(at, 11.0))
        model.hear(decision(at, own=2, rent=step % 7))
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor")
    view = LiveView("a trace", START, START + 7 * 24 * HOUR, 100.0, synthetic=True, console=console)
    lines = console.render_lines(view.picture(model, (), width, height), pad=False)
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)
    text = "\n".join("".join(segment.text for segment in line) for line in lines)
    assert "SYNTHETIC" in text
    if height >= 24:
        assert len(lines) <= height
