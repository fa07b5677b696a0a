"""A buyer for the kill test on EC2: applies one target and kills itself with SIGKILL at the step that it is told.

Usage: python -m tests.contract.aws_buyer URL FOLDER FLEET STEP, where STEP is one of STEPS or "none".
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import boto3

from actuators.aws_actuator import aws_actuator
from actuators.aws_api import AwsApi
from controlplane.contracts.fleet import Offer, Tier
from tests.dying import DyingStore, die_at

OFFER = Offer("rented", Tier.BURST, 1.0, 0, 40, 1.0, 60.0)
TARGET = 2
OPTIONS = {
    "region": "us-east-1",
    "instance_types": ["p5en.48xlarge"],
    "purchase": "onDemand",
    "launch_template": "serve-r1",
    "launch_template_version": "$Default",
}
STEPS = ("before-intent", "after-intent", "after-ask", "before-record", "after-record")


def command(url: str, folder: Path, fleet: str, step: str) -> list[str]:
    return [sys.executable, "-m", "tests.contract.aws_buyer", url, str(folder), fleet, step]


class DyingApi(AwsApi):
    """Dies when EC2 has sold, before anyone has heard of it."""

    step = "none"

    def _call(self, service: str, operation: str, parameters: Any) -> dict[str, Any]:
        answer = super()._call(service, operation, parameters)
        if operation == "create_fleet":
            die_at(self.step, "after-ask")
        return answer


async def main(url: str, folder: Path, fleet: str, step: str) -> None:
    session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    api = DyingApi("us-east-1", url, session)
    api.step = step
    actuator = aws_actuator(OPTIONS, DyingStore(folder, step), api=api)
    print(await actuator.apply(fleet, OFFER, TARGET), flush=True)
    await actuator.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
