"""Plays a demo: brings the control plane up, watches what it says on NATS, shows it, and sums up at the end.

Owns the order of these and the clean end, whatever comes first: the week's end, Ctrl-C, or a NATS server that stays down. The view
knows only what is on the bus. `controlplane.app` wires the plane; `result` judges what came of it.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from nats.aio.client import Client
from rich.console import Console

from controlplane.app import Plane, Settings, running
from controlplane.bus.fold import decode, input_subjects_of
from controlplane.bus.reader import OrderedReader
from controlplane.config import environment_variables
from controlplane.contracts.errors import TidegateError
from controlplane.contracts.events import Event
from controlplane.contracts.subjects import ACTUATION, DECISION, INPUTS_STREAM, OUTPUTS_STREAM, TICK
from controlplane.demo.baselines import computed_apart
from controlplane.demo.log import PlainLines, say
from controlplane.demo.result import LedgerChecks, checked, result_of, summary_of
from controlplane.demo.scenario import CLOUD_SEED, Scenario, scenario_of
from controlplane.live.model import ViewModel
from controlplane.sim.cloud_ledger import read_ledger
from controlplane.sim.run import RunResult
from controlplane.traces.library import data_folders

FRAME_SECONDS = 0.2
LISTEN_SECONDS = 1.0
SETTLE_SECONDS = 3.0
# So much wall time after its end the week is over even if its last observation never came.
OVERTIME_SECONDS = 3.0
CLOUD_GRACE_SECONDS = 600.0
INTERRUPTED = 130


class View(Protocol):
    """How the demo is shown while it runs."""

    def __enter__(self) -> Self:
        """Take the terminal."""
        ...

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        ...

    def show(self, model: ViewModel, compared: Sequence[RunResult], age_seconds: float) -> None:
        """Show where the demo stands; `age_seconds` is the age of this process."""
        ...


@dataclass(slots=True)
class Played:
    """What is known of a demo, while it runs and when its plane is down. `started` is the process's start, monotonic seconds."""

    model: ViewModel
    started: float
    compared: tuple[RunResult, ...] = ()
    checks: LedgerChecks = field(default_factory=lambda: LedgerChecks(0, 0))
    ledger: Path | None = None
    over: bool = False


def play(folder: Path, seconds: float, *, headless: bool) -> int:
    """Play the week in `seconds` of wall time and return the exit code."""
    started = time.monotonic() - process_age_seconds()
    scenario = scenario_of(data_folders(environment_variables()), seconds)
    say(f"demand: {scenario.title}; the week takes {seconds:g} s")
    view: View = PlainLines() if headless else _live_view(scenario, seconds)
    played = asyncio.run(_play(scenario, folder, view, started))
    if not played.over:
        say(f"stopped in the middle; go on with: tidegate demo --resume --folder {folder}")
        return INTERRUPTED
    return _sum_up(played, scenario, folder, headless=headless)


def _live_view(scenario: Scenario, seconds: float) -> View:
    from controlplane.live.view import LiveView

    return LiveView(scenario.title, scenario.start_unix, scenario.end_unix, seconds, synthetic=scenario.synthetic)


async def _play(scenario: Scenario, folder: Path, view: View, started: float) -> Played:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, stopping.set)
    settings = Settings(
        fleets=(scenario.fleet,),
        folder=folder,
        replays=(scenario.replay,),
        cloud=scenario.cloud,
        cloud_seconds=(scenario.end_unix - scenario.start_unix) / scenario.replay.speed + CLOUD_GRACE_SECONDS,
        seed=CLOUD_SEED,
    )
    played = Played(ViewModel(scenario.fleet, scenario.start_unix), started)
    async with running(settings) as plane:
        played.ledger = plane.cloud_ledger
        comparing = asyncio.ensure_future(_compare(played, folder))
        works = [_listen(plane.client, stream, subjects, played.model.hear) for stream, subjects in _subjects(scenario.fleet.name).items()]
        tasks = [comparing, *(asyncio.ensure_future(work) for work in (*works, _fail_beyond_help(plane)))]
        try:
            with view:
                played.over = await _watch(scenario, plane, played, view, stopping, tasks)
            if played.over and played.model.decision is not None:
                await comparing
            if played.over:
                played.checks = await _settled(played)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return played


async def _compare(played: Played, folder: Path) -> None:
    """Have the comparisons computed, once the first decision has been made: until then every cycle is the services'."""
    while played.model.decision is None:
        await asyncio.sleep(FRAME_SECONDS)
    played.compared = await computed_apart(folder / "comparisons.log")


async def _fail_beyond_help(plane: Plane) -> None:
    raise TidegateError(await plane.beyond_help())


def _subjects(fleet: str) -> dict[str, list[str]]:
    """Return what the view listens to, by stream. Ticks are left out: their decisions say all that they do."""
    inputs = [subject for subject in input_subjects_of(fleet) if subject != TICK]
    return {INPUTS_STREAM: inputs, OUTPUTS_STREAM: [DECISION.format(fleet=fleet), ACTUATION.format(fleet=fleet, offer="*")]}


async def _listen(client: Client, stream: str, subjects: Sequence[str], hear: Callable[[Event], None]) -> None:
    """Hear a stream from its start, so that a resumed demo shows the whole week, until cancelled."""
    reader = OrderedReader(client, stream, subjects, 0, "tidegate-demo-view")
    try:
        while True:
            for message in await reader.next_batch(wait_seconds=LISTEN_SECONDS):
                event = decode(message.subject, message.data)
                if isinstance(event, Event):
                    hear(event)
    finally:
        await reader.close()


async def _watch(
    scenario: Scenario, plane: Plane, played: Played, view: View, stopping: asyncio.Event, tasks: Sequence[asyncio.Future[None]]
) -> bool:
    """Show the demo until the week is over (True) or somebody stops it (False); a task that failed is raised."""
    while not stopping.is_set():
        view.show(played.model, played.compared, time.monotonic() - played.started)
        for task in tasks:
            if task.done():
                task.result()
        if _is_over(scenario, plane, played.model):
            return True
        await asyncio.sleep(FRAME_SECONDS)
    return False


def _is_over(scenario: Scenario, plane: Plane, model: ViewModel) -> bool:
    last = scenario.end_unix - scenario.replay.interval_seconds / 2
    if model.rows and model.rows[-1].time_unix >= last:
        return True
    return plane.clock.now() >= scenario.end_unix + OVERTIME_SECONDS * scenario.replay.speed


async def _settled(played: Played) -> LedgerChecks:
    """Judge the ledger once what is on its way has arrived: an order in flight is in the ledger before anyone can count it."""
    give_up = time.monotonic() + SETTLE_SECONDS
    while True:
        checks = checked(read_ledger(played.ledger) if played.ledger else (), played.model)
        if checks.clean or time.monotonic() >= give_up:
            return checks
        await asyncio.sleep(FRAME_SECONDS)


def _sum_up(played: Played, scenario: Scenario, folder: Path, *, headless: bool) -> int:
    """Print the summary, write the report and return the exit code."""
    if not played.model.rows or played.ledger is None:
        say("the week is over and nothing of it was seen; leave out --resume to play it anew")
        return 1
    from controlplane.demo.page import write_page

    results = (result_of(played.model, scenario, read_ledger(played.ledger)), *played.compared)
    console = Console(width=120) if headless else Console()
    console.print(summary_of(results, scenario.fleet.slo.attainment))
    page = folder / "report.html"
    write_page(page, results, played.model, scenario, played.checks)
    totals = played.model.totals
    say(f"{totals.observations:,} observations, {totals.decisions:,} decisions, {totals.scale_events:,} changes of a target")
    say(f"the cloud's ledger: {played.checks}")
    say(f"report: {page}")
    return 0 if played.checks.clean else 1


def process_age_seconds() -> float:
    """Return how old this process is, 0 where the system does not say."""
    try:
        ticks = float(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
