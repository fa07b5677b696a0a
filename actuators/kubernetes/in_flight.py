"""How many requests a replica works on now: from its engine's metrics page, where the policy names the port, else from an annotation.

Owns the reading of one figure. A replica whose page does not answer, or says no number, may be busy with anything: `UNKNOWN`, which is
more than any number, so that it goes last and its drain waits. A page without such a figure says nothing: the annotation then stands.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

import httpx

from actuators.kubernetes.pods import UNKNOWN, Pod, PodState

# Running and waiting, by engine: vLLM, SGLang, TensorRT-LLM, LMDeploy.
FIGURES = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "trtllm_num_requests_running",
        "trtllm_num_requests_waiting",
        "lmdeploy:num_requests_running",
        "lmdeploy:num_requests_waiting",
    }
)
TIMEOUT_SECONDS = 2.0
# For all pages together, however many there are and however slowly they come.
POLL_SECONDS = 5.0
AT_ONCE = 32


async def with_in_flight(pods: Sequence[Pod], port: int, poll_seconds: float = POLL_SECONDS) -> tuple[Pod, ...]:
    """Return the pods with what their pages say within `poll_seconds`; `port` 0: as they are."""
    if not port:
        return tuple(pods)
    gate, deadline = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time() + poll_seconds
    # Nothing is asked over TLS: reading the certificate authorities would stop the event loop for some 30 ms each time.
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, verify=False) as client:

        async def asked(pod: Pod) -> Pod:
            if pod.state is not PodState.READY:
                return pod
            host = f"[{pod.address}]" if ":" in pod.address else pod.address
            try:
                async with asyncio.timeout_at(deadline), gate:
                    answer = await client.get(f"http://{host}:{port}/metrics")
            except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
                return replace(pod, in_flight=UNKNOWN)
            said = in_flight_of(answer.text.splitlines()) if answer.is_success else UNKNOWN
            return pod if said is None else replace(pod, in_flight=said)

        return tuple(await asyncio.gather(*(asked(pod) for pod in pods)))


def in_flight_of(page: Iterable[str]) -> float | None:
    """Return the requests in flight of a metrics page, None where it has no such figure, `UNKNOWN` where one is no number."""
    found = [_figure(line) for line in page if line.partition("{")[0].partition(" ")[0] in FIGURES]
    return sum(found) if found else None


def _figure(line: str) -> float:
    """Return a sample's value; a time-stamp may follow it, and label values may hold spaces."""
    after = line.rpartition("}")[2].split() if "{" in line else line.split()[1:]
    try:
        value = float(after[0])
    except (IndexError, ValueError):
        return UNKNOWN
    return value if value >= 0.0 else UNKNOWN
