"""The AsyncAPI document of the bus, made by FastStream from the very brokers that the services run on.

Owns the document's title and version only: subjects and payloads come from `broker.PUBLISHES`, `contracts.subjects` and the events.
"""

import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from faststream.specification import AsyncAPI

from controlplane.bus.broker import PUBLISHES, build_broker, on_decisions
from controlplane.contracts.events import Decision

PARAMETER = re.compile(r"\{(\w+)\}")
DESCRIPTION = (
    "What tidegate says on NATS JetStream. Bodies are JSON, CloudEvents 1.0 in binary mode: the headers ce-id, ce-type, ce-source, "
    "ce-time and ce-specversion. Fleets and offers are DNS labels, so each is one token of a subject."
)


async def _hear(decision: Decision) -> None:
    """Make an offer be what the decision says."""


def asyncapi_document() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: all ten events with their subjects, as plain data."""
    brokers = {service: build_broker(None, service) for service in PUBLISHES}
    on_decisions(brokers["actuator"], _hear)
    document = AsyncAPI(*brokers.values(), title="tidegate", version=_version(), description=DESCRIPTION)
    plain = json.loads(document.to_specification().to_json())
    for channel in plain["channels"].values():
        # The standard asks for a word on every part of an address that varies; FastStream leaves that out for NATS.
        names = PARAMETER.findall(channel["address"])
        if names:
            channel["parameters"] = {name: {"description": f"the {name}'s name, a DNS label"} for name in names}
    return cast(dict[str, Any], _in_order(plain))


def _in_order(node: Any) -> Any:
    """Sort keys, as FastStream keeps publishers in no order: the same program always writes the same document."""
    if isinstance(node, dict):
        return {key: _in_order(node[key]) for key in sorted(node)}
    return [_in_order(item) for item in node] if isinstance(node, list) else node


def _version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "0"
