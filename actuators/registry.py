"""The kinds of actuator by name: the words that a policy's offers use.

Owns the table only; heavy SDKs are imported when a kind is first made. It must not wire: `controlplane.app` calls `create`.
To add one: write `actuators/<kind>.py`, add a line here, and the contract suite in tests/contract/test_actuators.py takes it up.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from actuators.api import Actuator, IntentStore
from controlplane.contracts.errors import PolicyError

if TYPE_CHECKING:
    from actuators.gateway import GatewayRoute

Factory = Callable[[Mapping[str, object], IntentStore], Actuator]


def _simulated(options: Mapping[str, object], store: IntentStore) -> Actuator:
    from actuators.simulated import simulated_actuator

    url = options.get("url")
    if not url:
        raise PolicyError("the simulated actuator needs the address of a simulated cloud: set simulated.url, such as http://127.0.0.1:8080")
    return simulated_actuator(str(url), store, speed=float(str(options.get("speed") or 1.0)))


def _aws(options: Mapping[str, object], store: IntentStore) -> Actuator:
    from actuators.aws_actuator import aws_actuator

    return aws_actuator(options, store)


def _kubernetes(options: Mapping[str, object], store: IntentStore) -> Actuator:
    from actuators.kubernetes.sharing import shared_actuator

    return shared_actuator(options, store)


def _market(options: Mapping[str, object], store: IntentStore) -> Actuator:
    from actuators.market_suppliers import market_actuator

    return market_actuator(options, store)


ACTUATORS: dict[str, Factory] = {"aws": _aws, "kubernetes": _kubernetes, "market": _market, "simulated": _simulated}


def create(kind: str, options: Mapping[str, object], store: IntentStore) -> Actuator:
    """Return a new actuator of a kind, with an offer's options; PolicyError for a kind that is not there."""
    factory = ACTUATORS.get(kind)
    if factory is None:
        raise PolicyError(f"there is no actuator {kind!r}; known are {', '.join(sorted(ACTUATORS))}")
    return factory(options, store)


def create_route(options: Mapping[str, object]) -> "GatewayRoute":
    """Return the gateway that a spill offer's block names."""
    from actuators.gateway import gateway_of

    return gateway_of(options)
