"""Stories of alerts that come in: what is acted on, once; what is only recorded; and what the sender is told."""

import pytest

from controlplane.contracts.events import AlertAction
from tests.unit.web_rig import STARTS, Rig, alertmanager, grafana, sent


@pytest.mark.parametrize(("make", "path"), [(alertmanager, "/webhooks/alertmanager"), (grafana, "/webhooks/grafana")])
async def test_a_lift_is_published_and_its_fleet_poked(make, path) -> None:
    rig = Rig()
    answer = await rig.alert(make(sent(action="lift", lift_replicas="3", expires="30m")), path)
    assert answer.status_code == 200
    assert answer.json() == {"accepted": 1, "duplicates": 0, "recorded": 0, "truncated": 0}
    alert, poke = rig.outlet.events
    assert (alert.fleet, alert.name, alert.action, alert.lift_replicas) == ("r1", "QueueIsLong/f1", AlertAction.LIFT, 3)
    assert (alert.expires - alert.time).total_seconds() == 1800.0
    assert alert.summary == "the queue is long"
    assert (poke.cause, poke.fleet, poke.is_poke) == ("alert", "r1", True)


async def test_grafana_may_put() -> None:
    rig = Rig()
    answer = await rig.ask("PUT", "/webhooks/grafana", json=grafana(sent()))
    assert answer.status_code == 200
    assert len(rig.outlet.alerts) == 1


@pytest.mark.parametrize(
    ("labels", "action", "replicas", "seconds"),
    [
        ({}, AlertAction.TICK, 0, 900.0),
        ({"action": "tick"}, AlertAction.TICK, 0, 900.0),
        ({"action": "lift"}, AlertAction.LIFT, 1, 900.0),
        ({"action": "lift", "lift_replicas": "999999"}, AlertAction.LIFT, 12, 900.0),
        ({"action": "freeze", "expires": "7d"}, AlertAction.FREEZE, 0, 3600.0),
        ({"action": "freeze", "expires": "0"}, AlertAction.FREEZE, 0, 1.0),
    ],
)
async def test_what_labels_ask_for_is_bounded(labels, action, replicas, seconds) -> None:
    rig = Rig()
    await rig.alert(alertmanager(sent(**labels)))
    (alert,) = rig.outlet.alerts
    assert (alert.action, alert.lift_replicas, (alert.expires - alert.time).total_seconds()) == (action, replicas, seconds)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"fleet": "unheard-of"}, "tidegate_fleet names no fleet here"),
        ({"fleet": ""}, "tidegate_fleet names no fleet here"),
        ({"action": "buy everything"}, "tidegate_action is none of lift, tick, freeze"),
        ({"action": "none"}, "tidegate_action is none of lift, tick, freeze"),
        ({"action": "lift", "lift_replicas": "-3"}, "tidegate_lift_replicas is not a whole number above 0"),
        ({"action": "lift", "lift_replicas": "٣"}, "tidegate_lift_replicas is not a whole number above 0"),
        ({"action": "lift", "lift_replicas": "1e9"}, "tidegate_lift_replicas is not a whole number above 0"),
        ({"expires": "soon"}, "tidegate_expires is not a duration such as 15m"),
    ],
)
async def test_what_is_not_understood_is_recorded_and_never_acted_on(labels, reason) -> None:
    rig = Rig()
    answer = await rig.alert(alertmanager(sent(**labels)))
    assert answer.status_code == 200
    assert answer.json()["recorded"] == 1
    assert rig.outlet.events == []
    assert [note.reason for note in rig.outlet.notes] == [reason]


async def test_labels_win_over_annotations_and_annotations_do_as_well() -> None:
    rig = Rig()
    by_annotation = sent("a")
    by_annotation["labels"], by_annotation["annotations"] = {"alertname": "A"}, {"tidegate_fleet": "r1", "tidegate_action": "freeze"}
    both = sent("b", action="lift")
    both["annotations"] = {"tidegate_action": "freeze"}
    await rig.alert(alertmanager(by_annotation, both))
    assert [alert.action for alert in rig.outlet.alerts] == [AlertAction.FREEZE, AlertAction.LIFT]


async def test_a_repeat_is_taken_once_and_one_poke_serves_a_group() -> None:
    rig = Rig()
    body = alertmanager(sent("a"), sent("b"), sent("b"))
    assert (await rig.alert(body)).json() == {"accepted": 2, "duplicates": 1, "recorded": 0, "truncated": 0}
    for _ in range(3):
        rig.wall.advance(300.0)
        assert (await rig.alert(body)).json()["duplicates"] == 3
    assert len(rig.outlet.alerts) == 2
    assert len(rig.outlet.pokes) == 1


async def test_resolved_and_firing_anew_are_news() -> None:
    rig = Rig()
    await rig.alert(alertmanager(sent(action="lift")))
    await rig.alert(alertmanager(sent(status="resolved", action="lift"), status="resolved"))
    await rig.alert(alertmanager(sent(starts="2023-11-14T22:14:00Z", action="lift")))
    assert [(alert.name, alert.status) for alert in rig.outlet.alerts] == [
        ("QueueIsLong/f1", "firing"),
        ("QueueIsLong/f1", "resolved"),
        ("QueueIsLong/f1", "firing"),
    ]


async def test_an_alert_older_than_the_memory_of_repeats_is_not_acted_on() -> None:
    """Else a body that was captured could be replayed once it is forgotten."""
    rig = Rig()
    body = alertmanager(sent())
    await rig.alert(body)
    for hours in (12, 12, 2, 200):
        rig.wall.advance(hours * 3600.0)
        await rig.alert(body)
    assert len(rig.outlet.alerts) == 1
    assert {note.reason for note in rig.outlet.notes} <= {"it began more than a day ago"}


async def test_an_end_of_long_ago_that_is_sent_again_does_not_end_the_lift_of_today() -> None:
    rig = Rig()
    ended = alertmanager(sent(status="resolved", action="lift"), status="resolved")
    await rig.alert(alertmanager(sent(action="lift")))
    await rig.alert(ended)
    rig.wall.advance(48 * 3600.0)
    rig.outlet.identities.clear()  # a stream knows its messages' ids for two minutes
    await rig.alert(alertmanager(sent(starts="2023-11-16T22:10:00Z", action="lift")))
    await rig.alert(ended)
    assert [alert.status for alert in rig.outlet.alerts] == ["firing", "resolved", "firing"]
    assert [note.reason for note in rig.outlet.notes] == ["it ended more than a day ago"]


@pytest.mark.parametrize(("ends", "status"), [("2023-11-16T22:12:00Z", ["resolved"]), ("0001-01-01T00:00:00Z", []), (None, [])])
async def test_what_fired_for_days_may_end_as_long_as_its_end_is_news(ends: str | None, status: list[str]) -> None:
    rig = Rig()
    rig.wall.advance(48 * 3600.0)
    alert = sent(status="resolved", action="lift")
    alert = {**alert, "endsAt": ends} if ends else {name: value for name, value in alert.items() if name != "endsAt"}
    await rig.alert(alertmanager(alert, status="resolved"))
    assert [alert.status for alert in rig.outlet.alerts] == status


async def test_truncated_alerts_are_recorded() -> None:
    rig = Rig()
    answer = await rig.alert(alertmanager(sent(), truncatedAlerts=7))
    assert answer.json()["truncated"] == 7
    assert [note.reason for note in rig.outlet.notes] == ["the sender left 7 alerts out; raise max_alerts"]


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("failing_call", [1, 2, 3, 4])
async def test_whichever_call_nats_misses_the_next_attempt_completes_it(failing_call, is_stored) -> None:
    """The calls are two alerts, a note and a poke; one fails, with or without the stream having it."""
    rig, body = Rig(), alertmanager(sent("a"), sent("b"), sent("c", fleet="unheard-of"))
    rig.outlet.fails_at, rig.outlet.stores_what_fails = failing_call, is_stored
    answer = await rig.alert(body)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert (await rig.alert(body)).status_code == 200
    assert [alert.name for alert in rig.outlet.alerts] == ["QueueIsLong/a", "QueueIsLong/b"]
    assert len(rig.outlet.notes) == 1
    assert len(rig.outlet.pokes) == 1


async def test_what_the_stream_had_before_a_restart_is_known_after_it() -> None:
    rig, after = Rig(), Rig()
    await rig.alert(alertmanager(sent()))
    for identity in rig.outlet.identities:
        after.intake.remember(identity)
    assert (await after.alert(alertmanager(sent()))).json()["duplicates"] == 1
    assert after.outlet.events == []


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"version": "2"}, 422, "version"),
        ({"alerts": None}, 422, "alerts"),
        ({"groupKey": ""}, 422, "groupKey: is empty"),
        ({"truncatedAlerts": -1}, 422, "truncatedAlerts"),
        ({"alerts": [{"status": "firing"}]}, 422, "startsAt: is missing; with a custom payload, leave it out"),
        ({"alerts": [sent(status="pending")]}, 422, "status"),
        ({"alerts": [sent(starts="2023-11-14T22:00:00")]}, 422, "time zone"),
    ],
)
async def test_a_body_of_another_shape_is_refused_with_the_place(change, status, word) -> None:
    rig = Rig()
    answer = await rig.alert({**alertmanager(sent()), **change})
    assert answer.status_code == status
    assert word in answer.json()["error"]
    assert rig.outlet.events == []
    assert rig.outlet.notes == []


async def test_a_launch_is_announced_and_its_fleet_poked() -> None:
    rig = Rig()
    launch = {"fleet": "r1", "name": "v4", "starts": STARTS, "peak_multiple": 20, "ramp": "30m", "half_life": "10h"}
    answer = await rig.ask("POST", "/launches", json=launch)
    assert answer.status_code == 202
    event, poke = rig.outlet.events
    assert (event.name, event.peak_multiple, event.ramp_seconds, event.half_life_seconds) == ("v4", 20.0, 1800.0, 36000.0)
    assert (poke.cause, poke.fleet) == ("launch", "r1")


@pytest.mark.parametrize(
    ("launch", "status", "word"),
    [
        ({"fleet": "r2", "name": "v4", "starts": STARTS}, 404, "no such fleet here: 'r2'; there are r1"),
        ({"fleet": "r1", "name": "v4"}, 422, "starts"),
        ({"fleet": "r1", "name": "v4", "starts": STARTS, "peak_multple": 20}, 422, "peak_multiple"),
        ({"fleet": "r1", "name": "v4", "starts": STARTS, "peak_multiple": 0.5}, 422, "peak_multiple"),
        ({"fleet": "r1", "name": "v4", "starts": STARTS, "ramp": "a while"}, 422, "ramp: must be a duration with its unit, such as 30m"),
        ({"fleet": "r1", "name": "v4", "starts": STARTS, "ramp": "30"}, 422, "ramp: must be a duration with its unit, such as 30m"),
        ({"fleet": "r1", "name": "v4", "starts": STARTS, "half_life": "0s"}, 422, "half_life: must be a duration with its unit and longer"),
        ({"fleet": "r1", "name": "v4", "starts": "tomorrow"}, 422, "starts: must be a time with its zone, such as 2026-"),
        ({"fleet": "r1", "name": "v4", "starts": "tomorrow"}, 422, ", not 'tomorrow'"),
        ({"fleet": "r1", "name": "v4", "starts": "2036-11-23T17:00:00"}, 422, "starts: must be a time with its zone"),
        ({"fleet": "R 1", "name": "v4", "starts": STARTS}, 422, "fleet: must be a fleet's name"),
        ([], 422, "the body: is not a JSON object"),
    ],
)
async def test_a_launch_that_is_not_right_is_refused_with_the_field(launch, status, word) -> None:
    rig = Rig()
    answer = await rig.ask("POST", "/launches", json=launch)
    assert answer.status_code == status
    assert word in answer.json()["error"]
    assert rig.outlet.events == []
