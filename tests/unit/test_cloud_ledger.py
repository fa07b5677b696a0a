"""The simulated cloud's ledger: it survives a crash in the middle of a line, and its invariants catch what they are for."""

from pathlib import Path

from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Bought, Entry, LedgerFile, Opened, dump_ledger, parse_ledger, read_ledger
from controlplane.sim.cloud_model import Market
from controlplane.sim.invariants import bill_usd, bought_beyond, bought_twice, orphans, peak_held

CONFIG = CloudConfig(offers={"o": OfferWorld(usd_per_replica_hour=3.6, lead_time_seconds=100.0, token_seconds=60.0)})
OPENED = Opened(time_unix=0.0, wall_unix=0.0, speed=1.0, seed=1, config=CONFIG)


def ledger_of(*purchases: tuple[float, int, str]) -> list[Entry]:
    entries: list[Entry] = [OPENED]
    market = Market.replayed(entries)
    for now, count, token in purchases:
        entries.append(market.buy(now, "o", count, "me", token))
    return entries


def test_entries_survive_the_file(tmp_path: Path) -> None:
    entries = ledger_of((1.0, 2, "a"), (2.0, 1, "b"))
    ledger = LedgerFile(tmp_path / "new" / "ledger.jsonl")
    for entry in entries:
        ledger.append(entry)
    ledger.close()
    assert read_ledger(tmp_path / "new" / "ledger.jsonl") == tuple(entries)
    assert parse_ledger(dump_ledger(entries)) == tuple(entries)
    assert read_ledger(tmp_path / "none") == ()


def test_a_torn_last_line_is_cut_off_and_the_ledger_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(OPENED.model_dump_json() + '\n{"kind":"bou')
    assert read_ledger(path) == (OPENED,)
    ledger = LedgerFile(path)
    assert ledger.entries == (OPENED,)
    ledger.append(ledger_of((1.0, 2, "a"))[1])
    ledger.close()
    assert [type(entry) for entry in read_ledger(path)] == [Opened, Bought]


def test_a_purchase_that_was_made_twice_under_one_token_is_found() -> None:
    assert bought_twice(ledger_of((0.0, 2, "a"), (10.0, 2, "a"), (20.0, 2, "b"))) == ()
    assert bought_twice(ledger_of((0.0, 2, "a"), (61.0, 2, "a"))) == ("a",)


def test_a_purchase_beyond_the_target_is_found() -> None:
    ledger = ledger_of((10.0, 2, "a"), (20.0, 2, "b"))
    assert bought_beyond(ledger, "me", "o", [(0.0, 2), (15.0, 4)]) == ()
    assert [entry.token for entry in bought_beyond(ledger, "me", "o", [(0.0, 2), (30.0, 4)])] == ["b"]
    assert [entry.token for entry in bought_beyond(ledger, "me", "o", [(15.0, 4)])] == ["a"]


def test_what_nobody_counts_is_an_orphan() -> None:
    ledger = ledger_of((10.0, 2, "a"))
    assert orphans(ledger, {("me", "o"): 2}) == {}
    assert orphans(ledger, {("me", "o"): 1}) == {("me", "o"): 1}


def test_the_bill_and_the_peak_are_read_off_the_ledger() -> None:
    ledger = ledger_of((0.0, 2, "a"), (1800.0, 1, "b"))
    assert bill_usd(ledger, 3600.0) == 2 * 3.6 + 1.8
    assert bill_usd(ledger, 3600.0, "you") == 0.0
    assert peak_held(ledger, "me", "o") == 3
