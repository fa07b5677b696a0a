"""How many series values per second one process scrapes from engines and folds, and whether memory stays flat and nothing falls behind.

    python benchmarks/collect_load.py [--values-per-second 20000] [--seconds 60] [--fleets 4]

Engines are served by a process of their own, each page of 500 series values. Printed each tenth of the run: values read per second, CPU of
this process in cores, its memory, the age of the newest sample, and observations made. Exit status 1 where it cannot keep up.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path

from controlplane.collectors.scrape import EngineSource
from controlplane.contracts.fleet import Fleet, Slo, Unit

VALUES_PER_PAGE = 500
SCRAPE_SECONDS = 1.0
INTERVAL_SECONDS = 5.0

SERVER = r"""
import asyncio, sys, time
START = time.time()
BASE = 'engine="0",model_name="m"'
FIXED = "".join(f'vllm:iteration_tokens_total_bucket{{{BASE},le="{i}"}} %(n)d\n' for i in range(VALUES - 52))
BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0)
def page():
    n = int((time.time() - START) * 20)
    lines = [f'vllm:num_requests_running{{{BASE}}} 10', f'vllm:num_requests_waiting{{{BASE}}} 2', f'vllm:kv_cache_usage_perc{{{BASE}}} 0.4']
    lines += [f'vllm:request_success_total{{{BASE},finished_reason="{r}"}} {n}' for r in ("stop", "length", "abort")]
    lines += [f'vllm:prompt_tokens_total{{{BASE}}} {n * 900}', f'vllm:generation_tokens_total{{{BASE}}} {n * 200}']
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds"):
        lines += [f'vllm:{name}_bucket{{{BASE},le="{b}"}} {n}' for b in (*BOUNDS, "+Inf")]
    return ("\n".join(lines) + "\n" + FIXED % {"n": n}).encode()
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            body = page()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


def fleet_of(name: str, port: int, replicas: int) -> Fleet:
    """Return a fleet of so many engines behind the one server."""
    source = {
        "kind": "engines",
        "preset": "vllm",
        "targets": [f"http://127.0.0.1:{port}/{name}/{index}" for index in range(replicas)],
        "interval_seconds": INTERVAL_SECONDS,
        "scrape_interval_seconds": SCRAPE_SECONDS,
        "timeout_seconds": 2.0,
    }
    return Fleet(name=name, slo=Slo(0.99), unit=Unit.REQUESTS, offers=(), demand_source=source)


def memory_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def measure(port: int, wanted: float, seconds: float, fleets: int) -> bool:
    """Read for so long, print as it goes, and return whether it kept up."""
    replicas = max(round(wanted * SCRAPE_SECONDS / VALUES_PER_PAGE / fleets), 1)
    sources = [EngineSource(fleet_of(f"f{index}", port, replicas)) for index in range(fleets)]
    for source in sources:
        await source.read(time.time())
    print(f"{fleets} fleets of {replicas} replicas, {VALUES_PER_PAGE} values a page, each scraped every {SCRAPE_SECONDS:g} s")
    print("seconds  values/s  cores   MiB  oldest sample s  observations  coverage")
    begun, observations, pages, cpu = time.monotonic(), 0, 0, time.process_time()
    kept_up, first_mib, part = True, 0.0, max(seconds / 10.0, INTERVAL_SECONDS)
    last = begun
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(part)
        seen = [each for source in sources for each in await source.read(time.time())]
        observations += len(seen)
        now, used, read = time.monotonic(), time.process_time(), sum(source.pages for source in sources)
        rate, cores = (read - pages) * VALUES_PER_PAGE / (now - last), (used - cpu) / (now - last)
        age, coverage = max(each.age_seconds or 0.0 for each in seen), min(each.coverage or 0.0 for each in seen)
        print(f"{now - begun:7.0f}  {rate:8.0f}  {cores:5.2f} {memory_mib():5.0f}  {age:15.3f}  {observations:12d}  {coverage:8.2f}")
        first_mib = first_mib or memory_mib()
        kept_up &= rate > 0.9 * wanted and age < 2.0 * SCRAPE_SECONDS and coverage == 1.0
        last, pages, cpu = now, read, used
    grown = memory_mib() - first_mib
    print(f"memory grew by {grown:+.1f} MiB after the first part; kept up: {kept_up}")
    for source in sources:
        await source.close()
    return kept_up


def main() -> int:
    """Run the server and the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values-per-second", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fleets", type=int, default=4)
    options = parser.parse_args()
    code = SERVER.replace("VALUES", str(VALUES_PER_PAGE))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            return 0 if asyncio.run(measure(port, options.values_per_second, options.seconds, options.fleets)) else 1
        finally:
            server.kill()


if __name__ == "__main__":
    sys.exit(main())
