"""Spot interruption notices and rebalance recommendations, read from an SQS queue that EventBridge fills.

Owns which instances are about to be taken: they count as draining, so that the replacement is bought before they die. A notice stays in
the queue until its instance is gone, so a restart hears it again. It must not act on anything; `aws` asks it in its listing.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from actuators.aws_api import AwsApi
from controlplane.contracts.errors import SupplierError

INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
HIDDEN_SECONDS = 60
MOST_RECEIVES = 5
REBALANCED_SECONDS = 600.0
ENDED = ("shutting-down", "terminated")
# A notice of an instance that is not listed, another offer's or long gone, means nothing to us any more after this.
KEPT_SECONDS = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """What was heard of one instance: how to remove it from the queue, when it was sent, and until when the instance is to be kept."""

    receipt: str
    sent_unix: float
    until_unix: float


class Notices:
    """One queue of one region. A recommendation counts as a notice too, although the instance may live on."""

    def __init__(self, api: AwsApi, queue_url: str) -> None:
        """Know nothing yet."""
        self._api, self._queue_url = api, queue_url
        self._heard: dict[str, Notice] = {}

    def leaving(self, instances: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
        """Return which of these instances have had notice, as far as it was heard.

        With each goes the time, unix seconds, at which it is to be given back, as by then its replacement serves or never will: infinite
        after an interruption warning, as AWS takes it in two minutes itself, REBALANCED_SECONDS after a recommendation.
        """
        names = {instance["InstanceId"] for instance in instances}
        return {name: notice.until_unix for name, notice in self._heard.items() if name in names}

    async def hear(self, instances: Sequence[Mapping[str, Any]], now_unix: float) -> None:
        """Read the queue; the notices of instances that have ended are removed from it, and old ones of instances that are not these.

        EventBridge cannot tell whose an instance is, so a queue fills with notices of others. A new one of them comes back into the queue
        by itself. What was read counts, whatever fails or takes too long afterwards.
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
            for message in messages:
                self._note(message, now_unix)
            if not messages:
                break
        states = {instance["InstanceId"]: instance["State"]["Name"] for instance in instances}
        for name, notice in list(self._heard.items()):
            is_nobodys = name not in states and now_unix - notice.sent_unix > KEPT_SECONDS
            if is_nobodys or states.get(name) in ENDED:
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        receipt = self._heard.pop(name).receipt
        try:
            await self._api.call("sqs", "delete_message", QueueUrl=self._queue_url, ReceiptHandle=receipt)
        except SupplierError as error:
            # It comes back, with another receipt; one that cannot be removed must not keep the others from being heard.
            log.warning("a notice is not removed", instance=name, reason=str(error))

    def _note(self, message: Mapping[str, Any], now_unix: float) -> None:
        """Remember a message that is a notice: which instance it is about, and until when that is kept."""
        try:
            event = json.loads(message["Body"])
            name, kind = str(event["detail"]["instance-id"]), event["detail-type"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if kind in (INTERRUPTION, REBALANCE):
            before = self._heard.get(name)
            sent = _sent_unix(event, now_unix)
            until = math.inf if kind == INTERRUPTION else sent + REBALANCED_SECONDS
            if before is not None:
                sent, until = min(sent, before.sent_unix), min(until, before.until_unix)
            self._heard[name] = Notice(message["ReceiptHandle"], sent, until)


def _sent_unix(event: Mapping[str, Any], now_unix: float) -> float:
    """Return when an event was sent, so that a restart does not start its time anew; now where it does not say."""
    try:
        return min(datetime.fromisoformat(event["time"]).timestamp(), now_unix)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return now_unix
