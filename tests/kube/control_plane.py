"""A real control plane as child processes: etcd, kube-apiserver, and the controllers and the scheduler that a test asks for.

Everything is on loopback, in one folder, and dies with the context. There is no kubelet: `kubelet.py` patches what one would say.
Tokens: `admin` may do anything; any other name is a user without rights until a test binds some.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

READY_SECONDS = 60.0
ADMIN = "admin"
USERS = ("tidegate", "stranger")
CONTROLLERS = "deployment,replicaset,statefulset,disruption,garbagecollector,namespace,podgc,endpoint,clusterrole-aggregation"
# Fake nodes have no kubelet to lift the taints that these would give them, nor secrets to mount.
DISABLED_ADMISSION = "ServiceAccount,TaintNodesByCondition,DefaultTolerationSeconds"


def assets() -> Path:
    """Return the folder of the binaries, where `setup-envtest` or a packager put them."""
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class ControlPlane:
    """Use as a context manager. `url` is the API server's; `kubeconfig(user)` writes a file for one of the users."""

    def __init__(self, folder: Path, *, with_scheduler: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._with_scheduler = with_scheduler
        self.port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        lines = [f"{ADMIN},{ADMIN},0,system:masters", *(f"{user},{user},{user}," for user in USERS)]
        (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "accounts.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))

    def kubeconfig(self, user: str = ADMIN, server: str | None = None) -> Path:
        """Return a kubeconfig file whose only context, `test`, is this control plane as that user; `server` is an address in front."""
        path = self.folder / f"{user}-{abs(hash(server)):x}.kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server or self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        path.write_text(json.dumps(document))
        return path

    def call(self, method: str, path: str, body: object = None, content: str = "application/json") -> dict[str, Any]:
        """Ask the API server as the administrator; HTTPError for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": content}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_unverified()))
        with opener.open(request, timeout=10.0) as answer:
            body_text: dict[str, Any] = json.loads(answer.read() or b"{}")
            return body_text

    def start_api(self) -> None:
        """Start the API server on the same port and data, and wait until it is ready."""
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder / 'certs'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--disable-admission-plugins={DISABLED_ADMISSION}",
            "--service-account-issuer=https://test",
            f"--service-account-key-file={self.folder / 'accounts.key'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--shutdown-delay-duration=0s",
        )
        self._wait_for("/readyz", "kube-apiserver")

    def stop_api(self, how: int = signal.SIGKILL) -> None:
        """End the API server; the data stays."""
        self._stop("kube-apiserver", how)

    def hang_api(self, is_hung: bool) -> None:
        """Let the API server keep its connections and answer nothing any more, or go on."""
        self._processes["kube-apiserver"].send_signal(signal.SIGSTOP if is_hung else signal.SIGCONT)

    def __enter__(self) -> "ControlPlane":
        try:
            self._start(
                "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{self._etcd_port}",
                f"--advertise-client-urls=http://127.0.0.1:{self._etcd_port}",
                f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{self._peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{self._peer_port}",
                "--unsafe-no-fsync",
            )
            self.start_api()
            config = f"--kubeconfig={self.kubeconfig()}"
            shared = (config, "--leader-elect=false", "--port=0", "--kube-api-qps=500", "--kube-api-burst=1000")
            self._start("kube-controller-manager", *shared, "--secure-port=0", f"--controllers={CONTROLLERS}", *_workers())
            if self._with_scheduler:
                self._start("kube-scheduler", *shared, "--secure-port=0")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._processes)):
            self._stop(name, signal.SIGKILL)

    def _start(self, name: str, *arguments: str) -> None:
        executable = assets() / name
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([str(executable), *arguments], stdout=log, stderr=log, cwd=self.folder)

    def _stop(self, name: str, how: int) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(how)
            process.wait(20.0)

    def _wait_for(self, path: str, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_unverified()))
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {ADMIN}"})
        while time.monotonic() < deadline and self._processes[name].poll() is None:
            try:
                with opener.open(request, timeout=2.0):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"{name} is not ready: {(self.folder / f'{name}.log').read_text()[-3000:]}")


def _workers() -> Sequence[str]:
    return ("--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10")


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
