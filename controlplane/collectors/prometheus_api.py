"""One Prometheus-compatible query API through prometheus-api-client, off the event loop, with time-outs, retries and a breaker.

Owns the connection and what may go wrong with it; every failure is a SourceError with words. Thanos and Mimir speak the same API: their
tenants are headers. It must not know what is asked for: `promql` writes queries, `prometheus` reads answers.
"""

import asyncio
import functools
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from controlplane.collectors.api import SourceError
from controlplane.collectors.breaker import Breaker, retry_delay
from controlplane.collectors.credentials import Login
from controlplane.contracts.units import from_unix

ATTEMPTS = 3
CALLS_AT_ONCE = 6
ERROR_CHARACTERS = 300
PASSING_STATUS = ("429", "500", "502", "503", "504")

Labels = Mapping[str, str]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and its points (unix seconds by the server's clock, value), oldest first."""

    labels: Labels
    points: Points


class _FreshLogin(requests.auth.AuthBase):
    """Puts the login of now on each request."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._login.headers())
        return request


class PrometheusApi:
    """Queries one server. `monotonic` and `chance` are the breaker's clock and the retries' dice."""

    def __init__(
        self,
        options: Mapping[str, Any],
        login: Login | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = str(options["url"]).rstrip("/")
        self.breaker = Breaker()
        self._timeout_seconds = float(options.get("timeout_seconds") or 5.0)
        self._monotonic, self._chance = monotonic, chance
        self._login = login or Login(options)
        session = requests.Session()
        # A netrc file or a proxy of the environment must not replace what the policy says.
        session.trust_env = False
        session.verify = self._login.ca_file or True
        session.cert = self._login.client_certificate
        self._prometheus = PrometheusConnect(
            self.url,
            auth=_FreshLogin(self._login),
            session=session,
            # We retry; urllib3 only follows redirects, and says what went wrong as it was.
            retry=Retry(total=3, connect=0, read=False, redirect=3, status=0, other=0, respect_retry_after_header=False),
            timeout=self._timeout_seconds,
        )
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="prometheus")

    async def instant(self, query: str) -> list[Series]:
        """Return the answer of an instant query at the server's now; a range selector answers with raw samples."""
        return await self._call(functools.partial(self._prometheus.custom_query, query), query)

    async def range(self, query: str, start_unix: float, end_unix: float, step_seconds: float) -> list[Series]:
        """Return the answer of a range query, at most 11,000 points a series."""
        call = functools.partial(
            self._prometheus.custom_query_range, query, from_unix(start_unix), from_unix(end_unix), f"{step_seconds:g}"
        )
        return await self._call(call, query)

    async def clock_offset(self) -> float:
        """Return how many seconds the server's clock is ahead of ours, to half the round trip."""
        before = time.time()
        answer = await self.instant("vector(time())")
        after = time.time()
        if not answer or not answer[0].points:
            raise SourceError(f"{self.url}: it does not tell its time")
        return answer[0].points[0][1] - (before + after) / 2.0

    async def close(self) -> None:
        """Let connections and threads go."""
        self._prometheus.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, call: Callable[[], Any], query: str) -> list[Series]:
        if not self.breaker.allows(self._monotonic()):
            raise SourceError(f"{self.url} failed {self.breaker.failures} times in a row and is left alone for a while")
        problem = SourceError("not asked")
        for attempt in range(ATTEMPTS):
            try:
                answer = await self._once(call)
            except SourceError as error:
                problem = error
                if not error.retryable:
                    break
                if attempt + 1 < ATTEMPTS:
                    await asyncio.sleep(retry_delay(attempt, self._chance()))
                continue
            self.breaker.succeeded()
            return answer
        if problem.retryable:
            self.breaker.failed(self._monotonic())
        raise SourceError(f"{self.url}: {problem}; query: {query[:ERROR_CHARACTERS]}", retryable=problem.retryable) from problem

    async def _once(self, call: Callable[[], Any]) -> list[Series]:
        """Ask once. The request has its own time-out; a server that drips its answer is cut off by ours."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(self._threads, lambda: _series_of(call())), 2.0 * self._timeout_seconds)
        except PrometheusApiClientException as error:
            text = str(error)[:ERROR_CHARACTERS]
            passing = any(f"HTTP Status Code {status}" in text for status in PASSING_STATUS)
            raise SourceError(f"refused: {text}", retryable=passing) from error
        except requests.exceptions.Timeout as error:
            raise SourceError(f"no answer within {self._timeout_seconds:g} s") from error
        except requests.exceptions.ConnectionError as error:
            raise SourceError(f"not reachable: {type(error).__name__}") from error
        except (requests.exceptions.RequestException, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"not an answer of the query API: {type(error).__name__}") from error
        except TimeoutError as error:
            raise SourceError(f"no whole answer within {2.0 * self._timeout_seconds:g} s") from error


def _series_of(answer: Any) -> list[Series]:
    """Return the series of a vector, a matrix or a scalar."""
    if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], str):
        return [Series({}, ((float(answer[0]), float(answer[1])),))]
    series = []
    for entry in answer:
        points = entry["values"] if "values" in entry else [entry["value"]] if "value" in entry else []
        series.append(Series(entry["metric"], tuple((float(at), float(value)) for at, value in points)))
    return series
