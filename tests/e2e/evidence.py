"""What a run left behind, on the streams and in the cloud's ledger, and what must hold of it whoever was killed.

Owns reading and judging; it must not start tidegate. The judgements are the ones a user would make of a bill and of a log.
"""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client

from actuators.intents import IntentState
from actuators.simulated import simulated_actuator
from controlplane.bus.connect import connect
from controlplane.bus.epoch import KEY
from controlplane.bus.fold import decode
from controlplane.bus.intents import KvIntentStore
from controlplane.bus.reader import OrderedReader
from controlplane.contracts.events import Decision, Event, Forecast, Observation, Tick
from controlplane.contracts.subjects import INPUT_SUBJECTS, INPUTS_STREAM, OUTPUTS_STREAM, SNAPSHOT_BUCKET
from controlplane.sim.cloud_ledger import Bought, Entry, Opened, read_ledger
from controlplane.sim.cloud_model import Market
from controlplane.sim.invariants import bought_beyond, bought_twice, held, orphans
from tests.e2e.worlds import FLEET, RENTED, SPEED, fleet_in

# How long a decision may take from its Tick to the cloud, wall time: a purchase is judged by the targets of this long before it.
ON_ITS_WAY_SECONDS = 4.0
ATTEMPTS = 100
PAUSE_SECONDS = 0.1


@dataclass(slots=True)
class Streams:
    """Everything on the streams, by sequence; `replay_start` and `replay_wall` say which replayed time a moment of the wall was."""

    inputs: dict[int, Event] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    replay_start: float = 0.0
    replay_wall: float = 0.0

    def of[E: Event](self, kind: type[E], fleet: str = FLEET) -> dict[int, E]:
        """Return the inputs of one kind and fleet, by sequence."""
        return {at: event for at, event in self.inputs.items() if isinstance(event, kind) and getattr(event, "fleet", fleet) == fleet}

    def decided(self, fleet: str = FLEET) -> list[Decision]:
        """Return a fleet's decisions, oldest first."""
        return [decision for decision in self.decisions if decision.fleet == fleet]


async def read_streams(url: str, *, is_replay: bool = True) -> Streams:
    """Read both streams whole, and the replay's clock where there is one."""
    client = await connect(url)
    read = Streams()
    try:
        for sequence, event in await _all(client, INPUTS_STREAM, INPUT_SUBJECTS):
            read.inputs[sequence] = event
        read.decisions = [event for _, event in await _all(client, OUTPUTS_STREAM, ("tidegate.decision.*",)) if isinstance(event, Decision)]
        if not is_replay:
            return read
        entry = await (await client.jetstream().key_value(SNAPSHOT_BUCKET)).get(KEY)
        epoch = json.loads(entry.value or b"{}")
        read.replay_start, read.replay_wall = epoch["start_unix"], epoch["wall_unix"]
    finally:
        await client.close()
    return read


async def _all(client: Client, stream: str, subjects: tuple[str, ...]) -> list[tuple[int, Event]]:
    last = (await client.jetstream().stream_info(stream)).state.last_seq
    reader = OrderedReader(client, stream, list(subjects), 0, "tidegate-evidence")
    found: list[tuple[int, Event]] = []
    try:
        while last and (batch := await reader.next_batch(500, 0.5)):
            for message in batch:
                event = decode(message.subject, message.data)
                if isinstance(event, Event):
                    found.append((message.metadata.sequence.stream, event))
            if batch[-1].metadata.sequence.stream >= last:
                break
    finally:
        await reader.close()
    return found


def purchases(ledger: Path) -> list[Bought]:
    """Return what was bought of the rented offer."""
    return [entry for entry in read_ledger(ledger) if isinstance(entry, Bought) and entry.offer == RENTED]


def assert_decided_once(streams: Streams, fleet: str = FLEET) -> None:
    """Every Tick up to the last one answered has exactly one Decision, in the order of the stream."""
    answered = [decision.inputs_sequence for decision in streams.decided(fleet)]
    assert answered, "nothing was decided"
    last = max(sequence or 0 for sequence in answered)
    assert answered == [sequence for sequence in streams.of(Tick, fleet) if sequence <= last]


def assert_forecast_once(streams: Streams, fleet: str = FLEET) -> None:
    """Every Observation that said something new, up to the last one forecast from, has exactly one Forecast."""
    newest, expected = float("-inf"), []
    for seen in streams.of(Observation, fleet).values():
        at = seen.time.timestamp()
        if seen.demand_per_second is not None and at > newest:
            newest = at
            expected.append(at)
    made = [forecast.observed.timestamp() for forecast in streams.of(Forecast, fleet).values()]
    assert made, "nothing was forecast"
    assert made == [at for at in expected if at <= made[-1]]


def assert_bought_as_decided(entries: tuple[Entry, ...], streams: Streams) -> None:
    """Nothing was bought twice under one token, nor beyond the highest target that was on its way at that time."""
    assert bought_twice(entries) == ()
    opened = entries[0]
    assert isinstance(opened, Opened)
    # Both clocks run at one speed; they were started at different moments.
    ahead = opened.time_unix + SPEED * (streams.replay_wall - opened.wall_unix) - streams.replay_start
    made = [(decision.time.timestamp() + ahead, decision.targets[RENTED]) for decision in streams.decided() if RENTED in decision.targets]
    moments = sorted({at for at, _ in made} | {at + ON_ITS_WAY_SECONDS * SPEED for at, _ in made})
    highest = [
        (moment, max((target for at, target in made if moment - ON_ITS_WAY_SECONDS * SPEED <= at <= moment), default=0))
        for moment in moments
    ]
    assert bought_beyond(entries, FLEET, RENTED, highest) == ()


async def assert_nothing_orphaned(nats_url: str, cloud_url: str, ledger: Path, policy: Path) -> None:
    """A new actuator, which knows only the intents and the listing, settles every intent and accounts for all that the ledger holds.

    The cloud must be free of faults by now, and no other actuator may run.
    """
    client = await connect(nats_url)
    actuator = simulated_actuator(cloud_url, KvIntentStore(client))
    try:
        counted = {}
        for offer in fleet_in(policy).offers:
            status = await actuator.observe(FLEET, offer)
            target = status.ready + status.pending
            for _ in range(ATTEMPTS):
                await actuator.apply(FLEET, offer, target)
                intent = await KvIntentStore(client).latest(FLEET, offer.name)
                if intent is None or intent.state in (IntentState.SEEN, IntentState.FAILED):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            assert intent is None or intent.state in (IntentState.SEEN, IntentState.FAILED), intent
            status = await actuator.observe(FLEET, offer)
            counted[FLEET, offer.name] = status.ready + status.pending
        entries = read_ledger(ledger)
        market = Market.replayed(entries)
        assert orphans(entries, counted) == {}
        assert held(market, market.now_unix) == {key: count for key, count in counted.items() if count}
    finally:
        await actuator.close()
        await client.close()
