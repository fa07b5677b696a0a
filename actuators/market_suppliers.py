"""The suppliers that a market may name, made from the policy's block.

Owns the table of names only. To add one: implement `renting.GpuCloud`, add its block to `policies.schema_suppliers` and a line here.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from actuators.api import IntentStore
from actuators.cloud_http import ApiKey, HttpApi, Pace, Secret
from actuators.holdings import Supplier
from actuators.lambda_cloud import LambdaCloud
from actuators.market import MarketActuator, MarketSettings
from actuators.readiness import probe_of
from actuators.renting import GpuCloud, RentingSupplier
from actuators.runpod import Runpod
from actuators.simulated import simulated_supplier
from controlplane.contracts.errors import PolicyError

Maker = Callable[[HttpApi, Mapping[str, Any], Sequence[str], str], GpuCloud]
# The field of the policy's block, who speaks to it, and the shortest time between two calls of one account, seconds.
CLOUDS: Mapping[str, tuple[str, Maker, float]] = {"lambda": ("lambda_", LambdaCloud, 1.0), "runpod": ("runpod", Runpod, 0.0)}
WITH_CLOUD_INIT = ("lambda",)


def market_actuator(options: Mapping[str, Any], store: IntentStore) -> MarketActuator:
    """Return the market that a policy's block describes; PolicyError where a supplier that it names is not configured.

    `options["secret"]` reads an environment variable that the policy names: who wires hands it over, as no policy holds it.
    """
    secret: Secret = options.get("secret") or _no_secret
    settings = MarketSettings(
        float(options.get("price_advantage", 0.1)),
        float(options.get("refused_for_seconds", 120.0)),
        float(options.get("banned_for_seconds", 6 * 3600.0)),
    )
    start = bootstrap_of(options)
    suppliers = {str(name): supplier_of(str(name), options, secret, start) for name in options["suppliers"]}
    return MarketActuator(suppliers, store, settings, ledger=options.get("ledger"), health=options.get("health"))


def _no_secret(name: str) -> str | None:
    del name
    return None


def supplier_of(name: str, options: Mapping[str, Any], secret: Secret, bootstrap: str = "") -> Supplier:
    """Return one supplier of a market."""
    clouds = options.get("simulated") or {}
    if name in clouds:
        return simulated_supplier(str(clouds[name]))
    if name not in CLOUDS:
        raise PolicyError(f"there is no supplier {name!r}; known are {', '.join(sorted(CLOUDS))}, and clouds named under market.simulated")
    field, make, seconds = CLOUDS[name]
    block = options.get(field)
    if not block:
        raise PolicyError(f"the supplier {name} is not configured: give market.{name} what is to be rented there")
    pace = pace_of(str(block["url"]), str(block.get("api_key_file") or block.get("api_key_env")), seconds)
    api = HttpApi(str(block["url"]), ApiKey(block, secret), pace=pace)
    # A pod runs a container: it knows no cloud-init, and what it would be handed instead are its arguments.
    start = bootstrap if name in WITH_CLOUD_INIT else str(block.get("args") or "")
    return RentingSupplier(make(api, block, tuple(options.get("regions") or ()), start), probe_of(block))


@cache
def pace_of(url: str, key_name: str, seconds: float) -> Pace:
    """Return the turns of an account, the same for all offers of this process."""
    del url, key_name
    return Pace(seconds)


def bootstrap_of(options: Mapping[str, Any]) -> str:
    """Return the bootstrap script of a market's machines, its ${names} filled in; PolicyError where that cannot be done."""
    file = options.get("template")
    if not file:
        return ""
    try:
        text = Path(str(file)).read_text(encoding="utf-8")
        return Template(text).substitute(options.get("template_values") or {})
    except OSError as error:
        raise PolicyError(f"the bootstrap template {file} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise PolicyError(f"the bootstrap template {file} needs market.templateValues.{error.args[0]}") from error
    except ValueError as error:
        raise PolicyError(f"the bootstrap template {file} has a $ that begins no name; write $$ for a dollar sign: {error}") from error
