"""The aws actuator: which supplier serves a purchase option, and with what.

Owns the choice only. `aws` buys instances by fleet, `aws_reservations` reserves first, `aws_blocks` buys capacity blocks.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from actuators.api import Actuator, IntentStore
from actuators.aws import AwsSupplier
from actuators.aws_api import AwsApi
from actuators.aws_blocks import BlockActuator, BlockSupplier
from actuators.aws_notices import Notices
from actuators.aws_reservations import ReservationSupplier
from actuators.purchasing import PurchasingActuator
from actuators.readiness import probe_of
from controlplane.contracts.errors import PolicyError


def aws_actuator(
    options: Mapping[str, Any], store: IntentStore, *, api: AwsApi | None = None, clock: Callable[[], float] = time.time
) -> Actuator:
    """Return the actuator of one offer. `api` None: the policy's region of AWS; `clock` is unix seconds."""
    api = api or AwsApi(str(options["region"]))
    supplier = aws_supplier(options, api, clock)
    if isinstance(supplier, BlockSupplier):
        return BlockActuator(supplier, store, ledger=options.get("ledger"))
    return PurchasingActuator(supplier, store, ledger=options.get("ledger"))


def aws_supplier(options: Mapping[str, Any], api: AwsApi, clock: Callable[[], float] = time.time) -> AwsSupplier | BlockSupplier:
    """Return the supplier of an offer's purchase option; PolicyError where its block lacks what the option needs."""
    purchase, probe = options["purchase"], probe_of(options)
    if purchase == "capacityBlock":
        if not options.get("capacity_block"):
            raise PolicyError("purchase capacityBlock needs aws.capacityBlock: how long, and at most how much money")
        return BlockSupplier(api, options, probe, clock)
    queue = options.get("notices_queue")
    notices = Notices(api, str(queue)) if queue else None
    if purchase == "capacityReservation":
        if not options.get("availability_zone") or len(options["instance_types"]) != 1:
            raise PolicyError("purchase capacityReservation needs aws.availabilityZone and exactly one of aws.instanceTypes")
        return ReservationSupplier(api, options, probe, notices, clock)
    return AwsSupplier(api, options, probe, notices, clock)
