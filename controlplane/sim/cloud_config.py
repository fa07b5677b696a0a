"""What a simulated cloud is like: per offer its prices, stock, lead times, holds, refusals and faults, all seeded.

Owns the settings and their units only; it must not hold state. `cloud_model` acts on them, `cloud_config_of` derives them from a fleet.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.units import Count, Name, NonNegative, Positive, Share

FLOOR_LEAD_TIME_SIGMA = 0.05


class OfferWorld(BaseModel):
    """One offer of the simulated cloud. All `…_by_seconds` tables are steps: (seconds since the cloud opened, value from then on)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_replica_hour: NonNegative = Field(description="USD per replica-hour; a replica keeps the price of its request")
    usd_by_seconds: tuple[tuple[NonNegative, NonNegative], ...] = Field((), description="price over time, USD per replica-hour")
    lead_time_seconds: NonNegative = Field(description="median time from request to serving, seconds")
    lead_time_sigma: NonNegative = Field(0.15, description="jitter: standard deviation of the logarithm of the lead time")
    hold_seconds: NonNegative = Field(0.0, description="a replica is billed from its request on, for at least this long, seconds")
    stock_replicas: Count | None = Field(None, description="replicas that can be held at once; null: no limit")
    stock_by_seconds: tuple[tuple[NonNegative, Count], ...] = Field((), description="stock over time; what is held is not taken away")
    replicas_per_lot: Annotated[int, Field(ge=1)] = Field(1, description="sold only in multiples of this")
    quota_replicas: Count | None = Field(None, description="replicas that one owner may hold; null: no limit")
    requests_per_minute: Positive | None = Field(None, description="more purchase requests than this are throttled; null: no limit")
    start_failure_share: Share = Field(0.0, description="share of replicas that never serve; they are billed until given back")
    interruptions_per_hour: NonNegative = Field(0.0, description="rate at which a serving replica is taken back (spot)")
    listing_lag_seconds: NonNegative = Field(0.0, description="a purchase is listed only this long after its request, seconds")
    token_seconds: Positive | None = Field(None, description="how long an idempotency token is remembered, seconds; null: for ever")
    error_share: Share = Field(0.0, description="share of purchase requests that fail inside (503), nothing bought")
    lost_reply_share: Share = Field(0.0, description="share of purchases that are recorded although the reply is an error (503)")
    late_reply_share: Share = Field(0.0, description="share of purchases that are recorded and whose reply comes late")
    late_reply_seconds: NonNegative = Field(5.0, description="how late, seconds of wall time")
    reserved_replicas: Count = Field(0, description="a committed pool of this size: billed whole, used or not, from the opening on")
    reserved_owner: str = Field("", description="who pays for the committed pool")

    def usd_at(self, elapsed_seconds: float) -> float:
        """Return the price, USD per replica-hour, so long after the opening."""
        return _step(self.usd_by_seconds, elapsed_seconds, self.usd_per_replica_hour)

    def stock_at(self, elapsed_seconds: float) -> int | None:
        """Return how many replicas can be held at once, None for no limit; a committed pool is its own stock."""
        if self.reserved_replicas:
            return self.reserved_replicas
        return _step(self.stock_by_seconds, elapsed_seconds, self.stock_replicas)


class CloudConfig(BaseModel):
    """A whole simulated cloud."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offers: dict[Name, OfferWorld] = Field(description="what can be bought")
    outages: tuple[tuple[NonNegative, NonNegative], ...] = Field((), description="(from, to) seconds since the opening: all calls fail")

    def is_down_at(self, elapsed_seconds: float) -> bool:
        """Return whether the whole API is out so long after the opening."""
        return any(start <= elapsed_seconds < end for start, end in self.outages)


def _step[V](table: tuple[tuple[float, V], ...], elapsed_seconds: float, before: V) -> V:
    """Return the newest value of a step table, `before` where none has come yet."""
    value = before
    for since, new in table:
        if since > elapsed_seconds:
            break
        value = new
    return value


def cloud_config_of(*fleets: Fleet, **overrides: Mapping[str, Any]) -> CloudConfig:
    """Return a cloud that sells what the fleets' offers describe; `overrides` maps an offer to fields of `OfferWorld`.

    A floor offer becomes a committed pool of its maximum, paid by its fleet; an offer without a price costs its ceiling.
    An offer is sold under its `pool` where its actuator names one. Offers that several fleets name are one offer here, as at a
    real supplier: the first fleet's figures count.
    Offer names hold dashes, so pass overrides as `**{"aws-p5en": {"stock_replicas": 4}}`.
    """
    offers: dict[str, dict[str, Any]] = {}
    for fleet in fleets:
        for offer in fleet.offers:
            floor = offer.tier is Tier.FLOOR
            price = offer.usd_per_replica_hour
            offers.setdefault(
                str(offer.actuator_options.get("pool") or offer.name),
                {
                    "usd_per_replica_hour": (offer.ceiling_usd_per_replica_hour or 0.0) if price is None else price,
                    "lead_time_seconds": offer.lead_time_seconds,
                    "hold_seconds": 0.0 if floor else offer.hold_seconds,
                    "replicas_per_lot": offer.replicas_per_lot,
                    "reserved_replicas": offer.max_replicas if floor else 0,
                    "reserved_owner": fleet.name if floor else "",
                    **({"lead_time_sigma": FLOOR_LEAD_TIME_SIGMA} if floor else {}),
                },
            )
    unknown = sorted(set(overrides) - set(offers))
    if unknown:
        raise ValueError(f"overrides for offers that no fleet has: {', '.join(unknown)}; known are {', '.join(offers)}")
    return CloudConfig(offers={name: OfferWorld(**{**world, **overrides.get(name, {})}) for name, world in offers.items()})
