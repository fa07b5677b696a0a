"""The market scenario: several suppliers with real prices and stock, a spot offer with real availability, and who buys by list price.

Owns the reading of the market series into offers and markets, and the baseline that buys by list price; it must not compare.
`controlplane.sim.bench` measures a scaler against it through `market_case`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import Fleet, Offer, Tier
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.sim.baselines_hpa import Hpa
from controlplane.sim.bench_cases import Built, Case, build
from controlplane.sim.pools import Market
from controlplane.sim.scaler import answer, usd_per_unit

PROVIDERS_FILE = "gpu_prices/market_providers_30min.csv.gz"
SPOT_FILE = "spot/aws_spot_2022_10_8series_10min.csv.gz"
SPOT_SERIES = "us-west-2a_v100_1"
SUPPLIERS = ("primecompute", "dc_roan", "nebius", "hyperstack", "runpod", "lambdalabs")
GPU, SOCKET = "H100", "SXM5"
GPUS_PER_REPLICA = 8
REPLICAS_PER_LISTING = 4
SPOT_DISCOUNT = 0.45
RETRY_SECONDS = 600.0


def market_case(case: Case, folders: tuple[Path, ...]) -> Built:
    """Return a case whose burst tier is a real marketplace and one spot offer, the series laid over the work from its start on.

    A supplier's listings are taken for four replicas each and its largest stock for its quota, a supplier that is absent has no stock, and
    what it lists first is its list price. The floor costs a third of the median supplier. Spot is priced below the median supplier and can
    be held while the AWS series says so.
    """
    built = build(case, folders)
    plain = built.fleet.tier(Tier.BURST)[0]
    offers: list[Offer] = list(built.fleet.tier(Tier.FLOOR))
    markets: dict[str, Market] = {}
    table = _listings(_find(PROVIDERS_FILE, folders))
    begin = built.workload.start_unix
    for rank, supplier in enumerate(SUPPLIERS):
        price, stock = _series(table, supplier, begin)
        name = supplier.replace("_", "-")
        lead = case.lead_seconds * (0.75 + 0.1 * rank)
        most = max(count for _, count in stock)
        offers.append(replace(plain, name=name, usd_per_replica_hour=price[0][1], lead_time_seconds=lead, max_replicas=most))
        markets[name] = Market(start_failure_share=0.02, usd_per_replica_hour=price, stock_replicas=stock)
    median = float(np.median([offer.usd_per_replica_hour or 0.0 for offer in offers[1:]]))
    offers[0] = replace(offers[0], usd_per_replica_hour=median / 3.0)
    offers.append(replace(plain, name="spot", usd_per_replica_hour=SPOT_DISCOUNT * median, hold_seconds=0.0))
    markets["spot"] = Market(start_failure_share=0.05, held_replicas=_spot(_find(SPOT_FILE, folders), begin))
    usd = max(offer.usd_per_replica_hour or 0.0 for offer in offers[1:])
    spill = replace(built.fleet.spill, usd_per_unit=3.0 * usd / 3600 / plain.capacity_per_second) if built.fleet.spill else None
    initial = {offer.name: offer.max_replicas for offer in built.fleet.tier(Tier.FLOOR)} | {"nebius": built.warm}
    settings = replace(built.settings, markets=markets, initial=initial)
    return replace(built, fleet=replace(built.fleet, offers=tuple(offers), spill=spill), settings=settings)


class ListPriceBuyer(Hpa):
    """An HPA that buys by list price, whatever the live price; on a refusal it goes on to the next offer for ten minutes."""

    def __init__(self, fleet: Fleet, target: float = 0.7) -> None:
        super().__init__(fleet, target)
        self._refused_unix: dict[str, float] = {}

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame: the HPA's size, filled by list price around the offers that refused."""
        line = super().decide(frame)
        if not line.targets:
            return line
        now = frame.time.timestamp()
        self._refused_unix |= dict.fromkeys(frame.unavailable, now)
        left = sum(count * self.fleet.offer_by_name[name].capacity_per_second for name, count in line.targets.items())
        targets: dict[str, int] = {}
        for offer in (*self.fleet.tier(Tier.FLOOR), *sorted(self.fleet.tier(Tier.BURST), key=usd_per_unit)):
            held = frame.ready.get(offer.name, 0) + frame.pending.get(offer.name, 0)
            refusing = now - self._refused_unix.get(offer.name, float("-inf")) < RETRY_SECONDS
            most = min(offer.max_replicas, held) if refusing else offer.max_replicas
            needed = max(0, int(np.ceil(left / offer.capacity_per_second - 1e-9)))
            targets[offer.name] = offer.max_replicas if offer.tier is Tier.FLOOR else min(most, needed)
            left -= targets[offer.name] * offer.capacity_per_second
        return answer(frame, targets, line.spill_per_second)


def _find(file: str, folders: tuple[Path, ...]) -> Path:
    found = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if found is None:
        raise TraceError(f"no {file} in {', '.join(str(folder) for folder in folders)}; `tidegate traces` says where it is from")
    return found


def _listings(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    table = table[(table["gpu"] == GPU) & (table["socket"] == SOCKET)]
    seconds = (pd.to_datetime(table["timestamp"], utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return table.assign(seconds=seconds - seconds.min())


def _series(table: pd.DataFrame, supplier: str, begin: float) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, int], ...]]:
    own = table[table["provider"] == supplier].drop_duplicates("seconds").set_index("seconds")
    price = [(begin + at, float(usd) * GPUS_PER_REPLICA) for at, usd in own["min_usd_per_gpu_hour"].items()]
    listed = own["offers"].reindex(sorted(table["seconds"].unique())).fillna(0)
    stock = [(begin + at, int(count) * REPLICAS_PER_LISTING) for at, count in listed.items()]
    return ((begin, price[0][1]), *_changes(price)), tuple(_changes(stock))


def _spot(path: Path, begin: float) -> tuple[tuple[float, int], ...]:
    table = pd.read_csv(path)
    seconds = (pd.to_datetime(table["timestamp"], utc=True) - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    held = [(begin + at, int(free) * 10_000) for at, free in zip(seconds - seconds.min(), table[SPOT_SERIES], strict=True)]
    return tuple(_changes(held))


def _changes[T: (int, float)](series: list[tuple[float, T]]) -> list[tuple[float, T]]:
    """Keep the points where the value changes."""
    return [point for at, point in enumerate(series) if at == 0 or point[1] != series[at - 1][1]]
