"""The ordered reader on the real server: nothing is left out, whatever fails between two batches."""

from typing import Any, cast

import nats.errors
from nats.aio.client import Client

from controlplane.bus.publish import Publisher
from controlplane.bus.reader import OrderedReader
from controlplane.contracts.subjects import INPUTS_STREAM
from tests.bus.events import observation

COUNT = 40


class StumblingClient:
    """A client that fails every second request for messages, as one does whose buffer is full while its server is away."""

    def __init__(self, client: Client) -> None:
        self._client, self._requests = client, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def publish(self, subject: str, *arguments: Any) -> None:
        if ".MSG.NEXT." in subject:
            self._requests += 1
            if self._requests % 2 == 0:
                raise nats.errors.OutboundBufferLimitError
        await self._client.publish(subject, *arguments)


async def test_a_request_that_fails_after_a_batch_was_taken_loses_nothing_of_it(client: Client) -> None:
    await Publisher(client, "tidegate/test").publish_many([observation(number) for number in range(COUNT)])
    reader = OrderedReader(cast(Client, StumblingClient(client)), INPUTS_STREAM, ["tidegate.observation.*"], 0, "tidegate-test")
    read: list[int] = []
    for _ in range(200):
        read += [message.metadata.sequence.stream for message in await reader.next_batch(limit=3, wait_seconds=0.1)]
        if read and read[-1] == COUNT:
            break
    await reader.close()
    assert read == list(range(1, COUNT + 1))
