"""The market scenario: real series become offers, and who buys by list price goes on to the next offer when refused."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import Fleet, Offer, Slo, Tier, Unit
from controlplane.contracts.frame import Frame
from controlplane.contracts.units import from_unix
from controlplane.sim.bench_cases import Case
from controlplane.sim.bench_market import PROVIDERS_FILE, SPOT_FILE, SUPPLIERS, ListPriceBuyer, market_case
from controlplane.sim.run import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A day of work, three polls of six suppliers of which one is absent at the second, and a spot series that ends midway."""
    counts = 6000 + 3000 * np.sin(np.arange(144) / 23)
    (tmp_path / "small.csv").write_text("t_s,requests\n" + "".join(f"{600 * row},{count:.0f}\n" for row, count in enumerate(counts)))
    rows = ["timestamp,gpu,socket,gpu_mem_gib,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour"]
    for hour, absent in ((0, ""), (6, "dc_roan"), (12, "")):
        for rank, supplier in enumerate(SUPPLIERS):
            if supplier != absent:
                rows.append(f"2025-10-19T{hour:02}:00:00Z,H100,SXM5,80,{supplier},{rank + 2},{1 + rank + hour / 12},{2 + rank}")
    spot = "timestamp,us-west-2a_v100_1\n2022-10-26T00:00:00Z,1\n2022-10-26T06:00:00Z,1\n2022-10-26T12:00:00Z,0\n"
    for file, text in ((PROVIDERS_FILE, "\n".join(rows)), (SPOT_FILE, spot)):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_the_series_become_offers_with_price_stock_and_availability(folder: Path) -> None:
    built = market_case(Case("small"), (folder,))
    begin = built.workload.start_unix
    roan = built.settings.markets["dc-roan"]
    assert roan.usd_per_replica_hour == ((begin, 16.0), (begin, 16.0), (begin + 43200, 24.0))
    assert roan.stock_replicas == ((begin, 12), (begin + 21600, 0), (begin + 43200, 12))
    assert built.settings.markets["spot"].held_replicas == ((begin, 10_000), (begin + 43200, 0))
    assert built.fleet.offer_by_name["dc-roan"].usd_per_replica_hour == 16.0
    assert built.fleet.offer_by_name["dc-roan"].max_replicas == 12
    result = run("list", ListPriceBuyer(built.fleet), built.fleet, built.workload, built.settings)
    assert result.attainment > 0.999
    assert result.replica_hours_by_offer["spot"] > 0


def test_without_the_files_the_scenario_says_which_one_is_missing(folder: Path) -> None:
    (folder / SPOT_FILE).unlink()
    with pytest.raises(TraceError, match="aws_spot"):
        market_case(Case("small"), (folder,))


def test_the_list_price_buyer_goes_round_an_offer_that_refused_and_comes_back() -> None:
    cheap = Offer("cheap", Tier.BURST, 10.0, 0, 50, 10.0, 480.0)
    fleet = Fleet("f", Slo(0.99), Unit.REQUESTS, (cheap, replace(cheap, name="dear", usd_per_replica_hour=20.0)), tick_seconds=60.0)
    buyer = ListPriceBuyer(fleet, 1.0)
    frame = Frame(fleet="f", time=from_unix(0.0), demand=60.0, ready={"cheap": 4})
    assert buyer.decide(frame).targets == {"cheap": 6, "dear": 0}
    assert buyer.decide(frame.model_copy(update={"time": from_unix(60.0), "unavailable": ("cheap",)})).targets == {"cheap": 4, "dear": 2}
    assert buyer.decide(frame.model_copy(update={"time": from_unix(700.0)})).targets == {"cheap": 6, "dear": 0}
