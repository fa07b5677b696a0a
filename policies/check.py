"""What several fields of a policy must agree on, checked on plain data so that it is found even where single fields are wrong too.

Owns the errors that `schema` cannot see in one field: exactly one source, one price, one actuator, names that collide, a missing signal.
It must tolerate any data and only reject; likely mistakes are in `advice`, secrets in `secrets`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.contracts.fleet import Tier
from policies.check_suppliers import check_rented
from policies.problems import Finding, Path, nearest, value_at
from policies.schema_actuators import REPLICA_ACTUATORS, SPILL_ACTUATORS
from policies.schema_demand import ENGINE_LISTS, SOURCES
from policies.schema_quotes import QUOTE_SOURCES

QUOTING_ACTUATORS = ("aws", "market", "simulated")


def check_tree(tree: object) -> list[Finding]:
    """Return every disagreement between fields of one document."""
    parts = (_check_demand, _check_offers, _check_names, _check_launches, _check_windows, _check_quotes)
    return [finding for part in parts for finding in part(tree)]


def entries(tree: object, tier: Tier) -> list[tuple[Path, Mapping[str, Any]]]:
    """Return the entries of a tier that are mappings, with their paths."""
    listed = value_at(tree, ("spec", tier.value))
    if not isinstance(listed, list):
        return []
    return [(("spec", tier.value, index), entry) for index, entry in enumerate(listed) if isinstance(entry, Mapping)]


def _check_demand(tree: object) -> Iterator[Finding]:
    path: Path = ("spec", "demand")
    demand = value_at(tree, path)
    if not isinstance(demand, Mapping):
        return
    given = [source for source in SOURCES if source in demand]
    if len(given) != 1:
        what = f"names {' and '.join(given)}" if given else "names no source"
        yield Finding(path, f"{what}; name exactly one of {', '.join(SOURCES)} (for pushed observations write `nats: {{}}`)")
    weighted = demand.get("unit") == "weightedTokens"
    if weighted and "inputTokenWeight" not in demand:
        yield Finding(path, "inputTokenWeight is required with unit weightedTokens: the work of one input token, such as 0.1")
    if not weighted and "inputTokenWeight" in demand and "unit" in demand:
        yield Finding((*path, "inputTokenWeight"), "is only for unit weightedTokens; remove it or change the unit")
    prometheus, engines = demand.get("prometheus"), demand.get("engines")
    if isinstance(prometheus, Mapping):
        yield from _check_signals(tree, prometheus, (*path, "prometheus"), has_queries=True)
    if isinstance(engines, Mapping):
        yield from _check_signals(tree, engines, (*path, "engines"), has_queries=False)
        yield from _check_engines(engines, (*path, "engines"))


def _check_signals(tree: object, source: Mapping[str, Any], path: Path, *, has_queries: bool) -> Iterator[Finding]:
    spilled = "spilled" in source or value_at(source, ("queries", "spilled")) is not None
    if entries(tree, Tier.SPILL) and not spilled:
        wanted = "set `spilled: litellm`" + (" or `queries: {spilled: <PromQL>}`" if has_queries else " and `gateways`")
        yield Finding(path, f"a spill tier needs the signal of what was spilled, or spill would hide demand: {wanted}")
    if source.get("spilled") == "envoy" and not source.get("spilledLabels"):
        yield Finding((*path, "spilledLabels"), "is required with envoy: the cluster of the spill backend, {envoy_cluster_name: <name>}")
    engine = value_at(tree, ("spec", "serving", "engine"), "other")
    own_query = value_at(source, ("queries", "demand")) is not None
    if "preset" not in source and engine == "other" and not own_query:
        otherwise = ", or write `queries: {demand: <PromQL>}`" if has_queries else ""
        yield Finding(path, f"which metrics? set preset to vllm, sglang, trtllm or lmdeploy{otherwise}")
    auth = source.get("auth")
    if isinstance(auth, Mapping):
        yield from _check_auth(auth, (*path, "auth"))


def _check_auth(auth: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    bearer = [key for key in ("bearerTokenEnv", "bearerTokenFile") if key in auth]
    if len(bearer) + ("usernameEnv" in auth) > 1:
        yield Finding(path, "names more than one way to sign in; keep one of bearerTokenEnv, bearerTokenFile, usernameEnv + passwordEnv")
    for one, other in (("usernameEnv", "passwordEnv"), ("certFile", "keyFile")):
        if (one in auth) != (other in auth):
            yield Finding(path, f"{one} and {other} go together; give both or neither")


def _check_engines(engines: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    given = [name for name in ENGINE_LISTS if name in engines]
    if len(given) != 1:
        what = f"names {' and '.join(given)}" if given else "does not say where the replicas are"
        yield Finding(path, f"{what}; name exactly one of {', '.join(ENGINE_LISTS)}")
    if "spilled" in engines and not engines.get("gateways"):
        yield Finding(
            (*path, "gateways"), "is required with spilled: the metrics pages of the gateway, such as http://litellm:4000/metrics"
        )


def _check_offers(tree: object) -> Iterator[Finding]:
    if not any(entries(tree, tier) for tier in (Tier.FLOOR, Tier.BURST)) and isinstance(value_at(tree, ("spec",)), Mapping):
        yield Finding(("spec",), "has no offer: give at least one entry under floor or burst")
    for tier in (Tier.FLOOR, Tier.BURST):
        for path, offer in entries(tree, tier):
            yield from _check_actuators(path, offer, REPLICA_ACTUATORS)
            yield from _check_replicas(path, offer)
            yield from check_rented(path, offer)
    for path, offer in entries(tree, Tier.BURST):
        yield from _check_burst_price(path, offer, has_quotes=bool(value_at(tree, ("spec", "quotes"))))
    for path, offer in entries(tree, Tier.SPILL):
        yield from _check_actuators(path, offer, SPILL_ACTUATORS)
        prices = [key for key in ("usdPerMillionTokens", "usdPerUnit") if key in offer]
        if len(prices) != 1:
            what = "states both prices" if prices else "has no price"
            yield Finding(path, f"{what}; give exactly one of usdPerMillionTokens: {{input, output}} and usdPerUnit")


def _check_actuators(path: Path, offer: Mapping[str, Any], kinds: tuple[str, ...]) -> Iterator[Finding]:
    given = [kind for kind in kinds if kind in offer]
    if len(given) > 1:
        yield Finding(path, f"names {' and '.join(given)}; name one actuator of {', '.join(kinds)}, or none to be only recommended")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _check_replicas(path: Path, offer: Mapping[str, Any]) -> Iterator[Finding]:
    least, most = _number(value_at(offer, ("replicas", "min"))), _number(value_at(offer, ("replicas", "max")))
    lot = _number(offer.get("replicasPerLot")) or 1.0
    if least is not None and most is not None and least > most:
        yield Finding((*path, "replicas", "min"), f"is more than replicas.max, {most:g}; make min at most max")
    elif most is not None and 0 < most < lot:
        yield Finding(
            (*path, "replicas", "max"), f"is less than one lot of {lot:g} replicas, so none could be bought; raise it to {lot:g} or more"
        )
    elif most is not None and least is not None and -(-least // lot) * lot > most:
        yield Finding(
            (*path, "replicas", "min"), f"rounded up to lots of {lot:g} is more than replicas.max, {most:g}; use multiples of the lot"
        )


def _check_burst_price(path: Path, offer: Mapping[str, Any], *, has_quotes: bool) -> Iterator[Finding]:
    price, ceiling = _number(offer.get("usdPerReplicaHour")), _number(offer.get("usdPerReplicaHourCeiling"))
    if (
        "usdPerReplicaHour" not in offer
        and not has_quotes
        and "usdPerReplicaHourCeiling" not in offer
        and not any(kind in offer for kind in QUOTING_ACTUATORS)
    ):
        yield Finding(path, "has no price and nothing that quotes one; give usdPerReplicaHour, USD per hour of one replica")
    if price is not None and ceiling is not None and price > ceiling:
        yield Finding(
            (*path, "usdPerReplicaHourCeiling"), f"is below usdPerReplicaHour, {price:g}, so it would never be bought; raise the ceiling"
        )


def _check_quotes(tree: object) -> Iterator[Finding]:
    """Each entry names one source, and what it states is of an offer that there is."""
    named = [offer for tier in (Tier.FLOOR, Tier.BURST) for _, offer in entries(tree, tier) if "name" in offer]
    offers = {str(offer["name"]): any(kind in offer for kind in QUOTING_ACTUATORS) for offer in named}
    stated: set[str] = set()
    listed = value_at(tree, ("spec", "quotes"))
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        path: Path = ("spec", "quotes", index)
        if not isinstance(entry, Mapping):
            continue
        given = [source for source in QUOTE_SOURCES if source in entry]
        if len(given) != 1:
            what = f"names {' and '.join(given)}" if given else "names no source"
            yield Finding(path, f"{what}; name exactly one of {', '.join(QUOTE_SOURCES)}, and give each further source its own entry")
        http = entry.get("http")
        if isinstance(http, Mapping) and {"bearerTokenEnv", "bearerTokenFile"} <= set(http):
            yield Finding((*path, "http"), "names two bearer tokens; keep one of bearerTokenEnv and bearerTokenFile")
        quotes = entry.get("static")
        for place, quote in enumerate(quotes if isinstance(quotes, list) else []):
            yield from _check_static(quote, (*path, "static", place), offers, stated)


def _check_static(quote: object, path: Path, offers: Mapping[str, bool], stated: set[str]) -> Iterator[Finding]:
    """`offers` tells of each offer whether its actuator quotes for itself."""
    name = value_at(quote, ("offer",))
    if not isinstance(quote, Mapping) or not isinstance(name, str):
        return
    if name not in offers:
        hint = nearest(name, offers) or f"; the offers are {', '.join(offers) or 'none'}"
        yield Finding((*path, "offer"), f"is no offer of this fleet's floor or burst{hint}")
    if offers.get(name):
        yield Finding((*path, "offer"), "is quoted by its own actuator, and the two would take turns; remove one of them")
    if name in stated:
        yield Finding((*path, "offer"), "is given twice; state each offer once")
    if not {"usdPerReplicaHour", "stockReplicas"} & set(quote):
        yield Finding(path, "says nothing; give usdPerReplicaHour, stockReplicas or both")
    stated.add(name)


def _check_names(tree: object) -> Iterator[Finding]:
    seen: dict[object, Path] = {}
    for tier in Tier:
        for path, offer in entries(tree, tier):
            name = offer.get("name")
            if not isinstance(name, str):
                continue
            if name in seen:
                other = f"{seen[name][1]}[{seen[name][2]}]"
                yield Finding((*path, "name"), f"is also the name of spec.{other}; give each offer of a fleet its own name")
            seen.setdefault(name, path)


def _check_launches(tree: object) -> Iterator[Finding]:
    launches = value_at(tree, ("spec", "launches"))
    seen: set[str] = set()
    for index, launch in enumerate(launches if isinstance(launches, list) else []):
        name = launch.get("name") if isinstance(launch, Mapping) else None
        if isinstance(name, str):
            if name in seen:
                yield Finding(("spec", "launches", index, "name"), "is given twice; give each launch its own name")
            seen.add(name)


def _check_windows(tree: object) -> Iterator[Finding]:
    path: Path = ("spec", "guard", "budget", "windows")
    windows = value_at(tree, path)
    seen: set[str] = set()
    for index, window in enumerate(windows if isinstance(windows, list) else []):
        if not isinstance(window, Mapping):
            continue
        if "usdPerHour" not in window and "usd" not in window:
            yield Finding((*path, index), "limits nothing; give usdPerHour, usd or both")
        if window.get("from", "00:00") == window.get("to", "24:00"):
            yield Finding((*path, index, "to"), "is the same as `from`; for all day leave both out")
        name = window.get("name")
        if isinstance(name, str):
            if name in seen:
                yield Finding((*path, index, "name"), "is given twice; give each window its own name")
            seen.add(name)
