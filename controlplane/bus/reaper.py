"""A shim process between tidegate and its nats-server child, so that the server never outlives tidegate.

Owns the store's lock and the server's life: when the pipe on stdin closes, because tidegate stopped or was killed, the server is stopped.
It runs as a script in an isolated interpreter, so it must import the standard library only. `embedded` starts it.
"""

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

STOP_WAIT_SECONDS = 10.0
PARENT_POLL_SECONDS = 1.0
EXIT_LOCKED = 75
_PR_SET_PDEATHSIG = 1


def take_lock(path: str, wait_seconds: float) -> int:
    """Take the store's lock and return its descriptor, -1 if another server keeps it for longer than `wait_seconds`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline or os.getppid() == 1:
                return -1
            time.sleep(0.02)


def die_with_the_shim() -> Callable[[], None] | None:
    """Return what makes the server die when this very shim is killed: Linux has a signal for it, other systems have not."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def ask_for_the_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask_for_the_signal


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Let the server shut down, and kill it when that takes too long."""
    server.terminate()
    try:
        server.wait(STOP_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_for_an_end(server: "subprocess.Popen[bytes]", parent: int, wake: int) -> None:
    """Return when the server has ended, when stdin is closed, or when the parent is another one than at the start."""
    while server.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([0, wake], [], [], PARENT_POLL_SECONDS)
        if 0 in readable and not os.read(0, 4096):
            return
        if wake in readable:
            signals = os.read(wake, 4096)
            if signal.SIGTERM in signals or signal.SIGINT in signals:
                return


def main(arguments: list[str]) -> int:
    """Run `arguments[2:]` under the lock file `arguments[0]`, waited for `arguments[1]` seconds, until one of us has to go.

    Return the server's exit status, EXIT_LOCKED if another server keeps the lock.
    """
    parent = os.getppid()
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    lock = take_lock(arguments[0], float(arguments[1]))
    if lock < 0:
        sys.stderr.write(f"another process holds {arguments[0]}\n")
        return EXIT_LOCKED
    # The server inherits the lock: it is free only when both are gone, so two servers never share a store.
    # There is but one thread here, so a preexec function is safe.
    dying = die_with_the_shim()
    server = subprocess.Popen(arguments[2:], stdin=subprocess.DEVNULL, pass_fds=(lock,), preexec_fn=dying)  # noqa: PLW1509
    wait_for_an_end(server, parent, wake)
    if server.poll() is None:
        stop(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
