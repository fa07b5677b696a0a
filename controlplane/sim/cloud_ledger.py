"""The append-only ledger of a simulated cloud: what was opened, bought, refused and released, as JSON lines.

Owns the entries and the file, which survives a kill -9 of its writer: each line is flushed and fsynced before anyone hears of it.
It must not decide anything; `cloud_model.Market` folds these entries into state, and `invariants` reads them afterwards.
"""

import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from controlplane.sim.cloud_config import CloudConfig


class Reply(StrEnum):
    """How the buyer hears of a purchase: as it should be, by an error although it was recorded, or too late."""

    GIVEN = "given"
    LOST = "lost"
    LATE = "late"


class Lease(BaseModel):
    """One replica as it was sold, its fate included: times are unix seconds of the simulated clock."""

    model_config = ConfigDict(frozen=True)
    id: str
    lot: str = Field(description="the lot it was sold in; a lot is given back whole")
    ready_unix: float = Field(description="when it serves, or is known to have failed to start")
    starts: bool = Field(description="whether it ever serves")
    interrupted_unix: float | None = Field(description="when it is taken back; null: never")
    usd_per_hour: float = Field(description="0 for a replica of a committed pool, which is billed whole")
    hold_seconds: float


class _Entry(BaseModel):
    """What all entries share."""

    model_config = ConfigDict(frozen=True)
    time_unix: float


class Opened(_Entry):
    """The cloud was opened: its whole world. Simulated time = `time_unix` + `speed` × (wall − `wall_unix`), or moved by hand at speed 0."""

    kind: Literal["opened"] = "opened"
    wall_unix: float
    speed: float
    seed: int
    config: CloudConfig


class Configured(_Entry):
    """The world was changed; what was sold stays as it was sold."""

    kind: Literal["configured"] = "configured"
    config: CloudConfig


class Clocked(_Entry):
    """A virtual clock was moved to here."""

    kind: Literal["clocked"] = "clocked"


class Bought(_Entry):
    """A purchase."""

    kind: Literal["bought"] = "bought"
    offer: str
    owner: str
    token: str
    reply: Reply
    replicas: tuple[Lease, ...]


class Repeated(_Entry):
    """A request with a token that is remembered: nothing was bought, the old purchase is the answer."""

    kind: Literal["repeated"] = "repeated"
    offer: str
    owner: str
    token: str
    reply: Reply


class Refused(_Entry):
    """A request that bought nothing, with the HTTP status of its answer."""

    kind: Literal["refused"] = "refused"
    offer: str
    owner: str
    token: str
    status: int
    reason: str


class Released(_Entry):
    """A replica was given back."""

    kind: Literal["released"] = "released"
    replica: str


Entry = Annotated[Opened | Configured | Clocked | Bought | Repeated | Refused | Released, Field(discriminator="kind")]
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


def parse_ledger(text: str) -> tuple[Entry, ...]:
    """Return the entries of a ledger's text, one JSON object a line; a last line that was torn by a crash is left out."""
    return tuple(_ENTRY.validate_json(line) for line in text.split("\n")[:-1] if line.strip())


def read_ledger(path: Path) -> tuple[Entry, ...]:
    """Return the entries of a ledger file, none where it is not there yet."""
    return parse_ledger(path.read_text(encoding="utf-8")) if path.exists() else ()


def dump_ledger(entries: Iterable[Entry]) -> str:
    """Return entries as the text that `parse_ledger` reads."""
    return "".join(entry.model_dump_json() + "\n" for entry in entries)


class LedgerFile:
    """Appends entries to a file, each durable before `append` returns; a torn last line is cut off at the start."""

    def __init__(self, path: Path) -> None:
        """Open the file, making it and its folder where needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        self.entries = parse_ledger(content[:whole].decode())

    def append(self, entry: Entry) -> None:
        """Write one entry; when this returns it survives a crash of this process and of the machine."""
        self._file.write(entry.model_dump_json().encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
