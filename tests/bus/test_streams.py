"""Streams and buckets: made once, brought to the stated limits, never replaced."""

import pytest
from nats.aio.client import Client
from nats.js.api import StorageType
from structlog.testing import capture_logs

from controlplane.bus.streams import Limits, ensure_streams
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import INPUT_SUBJECTS, INPUTS_STREAM


async def test_asking_again_keeps_everything(client: Client) -> None:
    js = client.jetstream()
    await js.publish("tidegate.tick", b"{}")
    await ensure_streams(js)
    await ensure_streams(js, Limits(inputs_seconds=3600.0, inputs_bytes=1 << 20))
    info = await js.stream_info(INPUTS_STREAM)
    assert info.state.messages == 1
    assert (info.config.max_age, info.config.max_bytes, info.config.duplicate_window) == (3600.0, 1 << 20, 120.0)
    assert set(info.config.subjects or ()) == set(INPUT_SUBJECTS)


async def test_a_stream_of_another_nature_is_refused(client: Client) -> None:
    js = client.jetstream()
    await js.delete_stream(INPUTS_STREAM)
    await js.add_stream(name=INPUTS_STREAM, subjects=["tidegate.tick"], storage=StorageType.MEMORY)
    with pytest.raises(BusError, match=r"TIDEGATE_INPUTS is there with another storage"):
        await ensure_streams(js)


async def test_subjects_that_another_stream_holds(client: Client) -> None:
    js = client.jetstream()
    await js.delete_stream(INPUTS_STREAM)
    await js.add_stream(name="MINE", subjects=["tidegate.tick"])
    with pytest.raises(BusError, match="another stream holds tidegate's subjects"):
        await ensure_streams(js)


async def test_replicas_that_one_server_cannot_hold(client: Client) -> None:
    with pytest.raises(BusError, match="use 1 replica on a single server"):
        await ensure_streams(client.jetstream(), Limits(replicas=3))


async def test_a_server_alone_keeps_one_copy_and_nothing_is_wrong_with_that(client: Client) -> None:
    with capture_logs() as logs:
        await ensure_streams(client.jetstream())
    assert (await client.jetstream().stream_info(INPUTS_STREAM)).config.num_replicas == 1
    assert logs == []
