"""The lines of the pipe: one frame is the Observation, PoolStatus and Quote of one tick at once.

Owns the short-named JSON lines that `tidegate decide` reads and writes. The long-named events are in `events`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from controlplane.contracts.events import Alert, Launch
from controlplane.contracts.units import Count, Name, NonNegative, Time, Work


class Line(BaseModel):
    """A line names its fleet and its time; what it does not know it ignores."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    fleet: Name
    time: Time


class Frame(Line):
    """What one tick knows. `demand` is the mean offered work per second since the previous frame; null: not known.

    `ready` and `pending` are replicas per offer, an offer left out has none. `prices` are USD per replica-hour. `paid_usd_per_hour` is what
    all that is held of an offer costs now, machines that failed or drain included; left out: ready and pending at its price.
    """

    type: Literal["observation"] = "observation"
    demand: Work | None
    backlog: Work | None = None
    ready: dict[Name, Count] = Field(default_factory=dict)
    pending: dict[Name, Count] = Field(default_factory=dict)
    unavailable: tuple[Name, ...] = ()
    prices: dict[Name, NonNegative] = Field(default_factory=dict)
    paid_usd_per_hour: dict[Name, NonNegative] = Field(default_factory=dict)
    served: Work | None = None
    late: Work | None = None
    spilled: Work | None = None


class LaunchLine(Launch):
    """A launch in the pipe: the event with a `type`."""

    type: Literal["launch"]


class AlertLine(Alert):
    """An alert in the pipe: the event with a `type`."""

    type: Literal["alert"]


PipeLine = Annotated[Frame | LaunchLine | AlertLine, Field(discriminator="type")]


class DecisionLine(BaseModel):
    """The answer to one frame: absolute targets (ready and pending together), and the highest rate that may be spilled."""

    model_config = ConfigDict(frozen=True)
    type: Literal["decision"] = "decision"
    fleet: str
    time: Time
    targets: dict[str, int]
    spill_per_second: float
    reasons: tuple[str, ...]
