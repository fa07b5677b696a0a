"""The aws actuator: which supplier serves a purchase option, and with what.

Owns the choice only. `aws` buys instances by fleet, `aws_reservations` reserves first, `aws_blocks` buys capacity blocks.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from actuators.api import Actuator, IntentStore
from actuators.aws import AwsSupplier
from actuators.aws_api import AwsApi
from actuators.aws_notices import Notices
from actuators.purchasing import PurchasingActuator
from actuators.readiness import probe_of


def aws_actuator(
    options: Mapping[str, Any], store: IntentStore, *, api: AwsApi | None = None, clock: Callable[[], float] = time.time
) -> Actuator:
    """Return the actuator of one offer. `api` None: the policy's region of AWS; `clock` is unix seconds."""
    api = api or AwsApi(str(options["region"]))
    queue = options.get("notices_queue")
    notices = Notices(api, str(queue)) if queue else None
    return PurchasingActuator(AwsSupplier(api, options, probe_of(options), notices, clock), store)
