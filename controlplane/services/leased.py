"""Run a fleet's work while its lease is held: stand by before, stop in good order at the end, drop everything when it is lost.

Owns the hand-over between two processes of the same service; what the work is it does not know.
A failure of the work is logged and it is started anew after a pause: NATS or a supplier being down is a normal day.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Protocol

import nats.errors
import structlog
from nats.aio.client import Client

from controlplane.bus.keys import entries
from controlplane.bus.lease import TTL_SECONDS, Lease
from controlplane.contracts.subjects import LEASE_BUCKET

PAUSE_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger(__name__)


class Work(Protocol):
    """What is done for one fleet while the lease is held."""

    async def run(self) -> None:
        """Work until `stop` is called or the task is cancelled."""
        ...

    def stop(self) -> None:
        """Let `run` end in good order, soon."""
        ...


async def while_leased(
    client: Client, service: str, fleet: str, make: Callable[[], Work], stopping: asyncio.Event, lease_seconds: int = TTL_SECONDS
) -> None:
    """Hold the lease of (service, fleet) whenever it is free, and do the work meanwhile, until `stopping` is set."""
    failures = 0
    while not stopping.is_set():
        lease = Lease(client, service, fleet, holder=_holder(os.getpid()), ttl_seconds=lease_seconds)
        if not await _acquired(lease, stopping):
            return
        try:
            ended_well = await _work(lease, make(), stopping)
        except Exception:
            log.exception("a service stumbled and starts anew", service=service, fleet=fleet)
            ended_well = False
        finally:
            await lease.release()
        failures = 0 if ended_well else failures + 1
        if failures and not stopping.is_set():
            await asyncio.sleep(PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS)) - 1])


async def forget_dead_holders(client: Client) -> None:
    """Free the leases that processes of this machine held when they were killed, so that a restart need not wait for them to run out.

    Call it before any lease is taken, and only on a server of our own: elsewhere the same name may be another machine's.
    """
    try:
        bucket = await client.jetstream().key_value(LEASE_BUCKET)
        for entry in await entries(client.jetstream(), LEASE_BUCKET):
            holder = (entry.value or b"").decode(errors="replace").rpartition(" ")[0]
            host, _, pid = holder.rpartition(":")
            if host == socket.gethostname() and pid.isdigit() and not _is_another_alive(int(pid)):
                await bucket.delete(str(entry.key), last=entry.revision)
                log.info("a lease of a process that is gone is free", lease=entry.key, holder=holder)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        # Then the leases run out by themselves.
        log.warning("leases of an earlier run are waited for", reason=str(error) or type(error).__name__)


def _holder(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"


def _is_another_alive(pid: int) -> bool:
    """Whether a process other than this one has the id: in a container every life of ours may have the same one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


async def _acquired(lease: Lease, stopping: asyncio.Event) -> bool:
    """Wait for the lease or for the end, whichever comes first."""
    waiting = asyncio.ensure_future(lease.acquire())
    ending = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
        return waiting.done()
    finally:
        ending.cancel()
        if not waiting.done():
            waiting.cancel()
        await asyncio.gather(waiting, ending, return_exceptions=True)


async def _work(lease: Lease, work: Work, stopping: asyncio.Event) -> bool:
    """Work until told to stop or the lease is lost; return whether it ended as it should."""
    running = asyncio.ensure_future(work.run())
    lost, ending = asyncio.ensure_future(lease.lost.wait()), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({running, lost, ending}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            return stopping.is_set()
        if lost.done():
            # Somebody else may act by now: nothing more may be written, not even a snapshot.
            return True
        work.stop()
        await running
        return True
    finally:
        for task in (running, lost, ending):
            task.cancel()
        await asyncio.gather(running, lost, ending, return_exceptions=True)
