"""Whether a rented machine really serves: asked of the machine itself, over HTTP, before it counts.

Owns the question and what was learnt of it; it must not know a supplier, nor give anything back. Suppliers ask it in their listing.
A readiness page answers 200 once its engine serves; it may say since when, as JSON `{"ready_unix": 1763805600.0}`, and the
bootstrap templates of deploy/bootstrap do. Without such a time the first moment at which it answered counts.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from actuators.holdings import HoldingState

PROBE_SECONDS = 2.0
PROBES_AT_ONCE = 32
DEFAULT_WITHIN_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs, as its supplier tells: `address` is its IP or host name, "" where there is none yet."""

    id: str
    address: str
    requested_unix: float


@dataclass(frozen=True, slots=True)
class Readiness:
    """Where a machine is on its way to serving. `since_unix` None: it serves, and nobody saw since when."""

    state: HoldingState
    since_unix: float | None = None


class ReadinessProbe:
    """Asks machines at `url`, in which {ip} and {id} stand for the machine's. Without a url the supplier's word is enough.

    `within_seconds` after its request a machine that never served has failed, but not before this probe has asked for as long: after a
    restart nobody knows what served, and one missed answer must not give a fleet back. One that has served keeps counting: whether
    it is healthy now is its gateway's business.
    """

    def __init__(self, url: str | None, within_seconds: float, client: httpx.AsyncClient | None = None) -> None:
        """Ask through a client of its own unless one is given."""
        self._url, self._within_seconds = url, within_seconds
        self._client = client or httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False)
        self._since: dict[str, float | None] = {}
        self._asking_unix: float | None = None
        self._waiting_unix: dict[str, float] = {}
        self._room = asyncio.Semaphore(PROBES_AT_ONCE)

    async def ask(self, machines: Sequence[Machine], now_unix: float) -> Mapping[str, Readiness]:
        """Return where each machine is. Machines that are no longer asked about are forgotten."""
        self._asking_unix = now_unix if self._asking_unix is None else self._asking_unix
        self._since = {machine.id: self._since[machine.id] for machine in machines if machine.id in self._since}
        answers = await asyncio.gather(*(self._one(machine, now_unix) for machine in machines))
        return {machine.id: answer for machine, answer in zip(machines, answers, strict=True)}

    def overdue(self, waiting: Iterable[str], now_unix: float) -> frozenset[str]:
        """Return which of the machines that their supplier has not started were first seen so more than `within_seconds` ago.

        They have failed as much as one that runs and never serves. The rest of those named before are forgotten.
        """
        self._waiting_unix = {name: self._waiting_unix.get(name, now_unix) for name in waiting}
        return frozenset(name for name, since in self._waiting_unix.items() if now_unix - since > self._within_seconds)

    async def _one(self, machine: Machine, now_unix: float) -> Readiness:
        if self._url is None:
            return Readiness(HoldingState.READY)
        if machine.id not in self._since and machine.address:
            await self._probe(machine, now_unix)
        if machine.id in self._since:
            return Readiness(HoldingState.READY, self._since[machine.id])
        late = now_unix - max(machine.requested_unix, self._asking_unix or now_unix) > self._within_seconds
        return Readiness(HoldingState.FAILED if late else HoldingState.PENDING)

    async def _probe(self, machine: Machine, now_unix: float) -> None:
        url = (self._url or "").replace("{ip}", machine.address).replace("{id}", machine.id)
        try:
            async with self._room:
                answer = await self._client.get(url)
        except (httpx.HTTPError, httpx.InvalidURL):
            return
        if answer.status_code == httpx.codes.OK:
            self._since[machine.id] = _since(answer, machine.requested_unix, now_unix)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _since(answer: httpx.Response, requested_unix: float, now_unix: float) -> float:
    """Return the time that a page states, kept between the request and now; now where it states none."""
    try:
        stated = answer.json()["ready_unix"]
        return min(max(float(stated), requested_unix), now_unix)
    except (ValueError, KeyError, TypeError):
        return now_unix


def probe_of(options: Mapping[str, Any]) -> ReadinessProbe:
    """Return the probe that an offer's `readiness` block describes."""
    block = options.get("readiness") or {}
    return ReadinessProbe(block.get("url"), float(block.get("within_seconds") or DEFAULT_WITHIN_SECONDS))
