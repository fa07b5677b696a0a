"""Spot interruption notices and rebalance recommendations, read from an SQS queue that EventBridge fills.

Owns which instances are about to be taken: they count as draining, so that the replacement is bought before they die. A notice stays in
the queue until its instance is gone, so a restart hears it again. It must not act on anything; `aws` asks it in its listing.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from actuators.aws_api import AwsApi

INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
HIDDEN_SECONDS = 60
MOST_RECEIVES = 5
ENDED = ("shutting-down", "terminated")


class Notices:
    """One queue of one region. `heeds_rebalance`: a recommendation counts as a notice too, although the instance may live on."""

    def __init__(self, api: AwsApi, queue_url: str, *, heeds_rebalance: bool = True) -> None:
        """Know nothing yet."""
        self._api, self._queue_url = api, queue_url
        self._kinds = (INTERRUPTION, REBALANCE) if heeds_rebalance else (INTERRUPTION,)
        self._receipts: dict[str, str] = {}

    async def leaving(self, instances: Sequence[Mapping[str, Any]]) -> frozenset[str]:
        """Return which of these instances have had notice; the notices of those that have ended are removed from the queue.

        A notice about an instance that is not among these, another offer's perhaps, comes back into the queue by itself.
        """
        for _ in range(MOST_RECEIVES):
            answer = await self._api.call(
                "sqs",
                "receive_message",
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=HIDDEN_SECONDS,
                WaitTimeSeconds=0,
            )
            messages = answer.get("Messages", [])
            self._receipts |= {named: message["ReceiptHandle"] for message in messages if (named := self._instance_in(message["Body"]))}
            if not messages:
                break
        states = {instance["InstanceId"]: instance["State"]["Name"] for instance in instances}
        for name in [name for name in self._receipts if states.get(name) in ENDED]:
            await self._api.call("sqs", "delete_message", QueueUrl=self._queue_url, ReceiptHandle=self._receipts.pop(name))
        return frozenset(self._receipts) & states.keys()

    def _instance_in(self, body: str) -> str:
        """Return the instance that a message gives notice of, "" for any other message."""
        try:
            event = json.loads(body)
            return str(event["detail"]["instance-id"]) if event["detail-type"] in self._kinds else ""
        except (ValueError, KeyError, TypeError):
            return ""
