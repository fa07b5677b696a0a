"""How many requests a replica works on now: from its engine's metrics page, where the policy names the port, else from an annotation.

Owns the reading of one figure. A page that does not answer says nothing: what the annotation says then stands.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

import httpx

from actuators.kubernetes.pods import Pod, PodState

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
AT_ONCE = 32


async def with_in_flight(pods: Sequence[Pod], port: int) -> tuple[Pod, ...]:
    """Return the pods with what their pages say; `port` 0: as they are."""
    if not port:
        return tuple(pods)
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:

        async def asked(pod: Pod) -> Pod:
            if pod.state is not PodState.READY or not pod.address:
                return pod
            host = f"[{pod.address}]" if ":" in pod.address else pod.address
            try:
                async with gate:
                    answer = await client.get(f"http://{host}:{port}/metrics")
            except httpx.HTTPError:
                return pod
            said = in_flight_of(answer.text.splitlines()) if answer.is_success else None
            return pod if said is None else replace(pod, in_flight=said)

        return tuple(await asyncio.gather(*(asked(pod) for pod in pods)))


def in_flight_of(page: Iterable[str]) -> float | None:
    """Return the requests in flight of a metrics page, None where it has no such figure."""
    found = [float(line.split()[-1]) for line in page if line.partition("{")[0].partition(" ")[0] in FIGURES]
    return sum(found) if found else None
