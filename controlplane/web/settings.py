"""Where the HTTP server listens, whom it believes, and how much it takes: values, read once from options and variables.

Owns the rule that a server beyond loopback has a token. It must not check a request; `auth` does. Secrets never appear in a repr.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.contracts.errors import TidegateError

DEFAULT_LISTEN = "127.0.0.1:8080"
SIGNATURE_HEADERS = ("x-grafana-alerting-signature", "x-grafana-alert-signature")
TIMESTAMP_HEADER = "x-grafana-alerting-timestamp"
SHORTEST_SECRET_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Secrets:
    """What proves who a caller is. `token` opens everything, the other three only the webhooks; all None: nobody is asked.

    With `timestamp_required`, a signature must cover the time header; without, one that comes with the time header must.
    """

    token: str | None = field(default=None, repr=False)
    webhook_token: str | None = field(default=None, repr=False)
    webhook_user: str | None = field(default=None, repr=False)
    webhook_password: str | None = field(default=None, repr=False)
    hmac_secret: str | None = field(default=None, repr=False)
    signature_headers: tuple[str, ...] = SIGNATURE_HEADERS
    timestamp_header: str = TIMESTAMP_HEADER
    timestamp_required: bool = False

    @property
    def guards_webhooks(self) -> bool:
        """Whether a webhook must prove itself."""
        return any((self.token, self.webhook_token, self.webhook_password, self.hmac_secret))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a caller may take: sizes in bytes, waits in seconds of wall time."""

    body_bytes: int = 1024 * 1024
    header_seconds: float = 5.0
    body_seconds: float = 5.0
    connections: int = 256
    replay_window_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class WebSettings:
    """One HTTP server. `port` 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8080
    secrets: Secrets = Secrets()
    limits: Limits = Limits()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and nothing else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def web_settings_of(listen: str, variables: Mapping[str, str]) -> WebSettings:
    """Return the settings for `host:port`; TidegateError where the address is none, or a server beyond loopback has no token.

    Secrets come from TIDEGATE_WEB_TOKEN, TIDEGATE_WEBHOOK_TOKEN, TIDEGATE_WEBHOOK_BASIC (`user:password`) and
    TIDEGATE_WEBHOOK_HMAC_SECRET, or from the file that the same name with _FILE names.
    """
    host, port = _address(listen)
    user, _, password = (secret("TIDEGATE_WEBHOOK_BASIC", variables) or "").partition(":")
    named = variables.get("TIDEGATE_WEBHOOK_HMAC_HEADER")
    stamped = variables.get("TIDEGATE_WEBHOOK_HMAC_TIMESTAMP_HEADER")
    secrets = Secrets(
        token=secret("TIDEGATE_WEB_TOKEN", variables),
        webhook_token=secret("TIDEGATE_WEBHOOK_TOKEN", variables),
        webhook_user=user or None,
        webhook_password=password or None,
        hmac_secret=secret("TIDEGATE_WEBHOOK_HMAC_SECRET", variables),
        signature_headers=(named.lower(),) if named else SIGNATURE_HEADERS,
        timestamp_header=(stamped or TIMESTAMP_HEADER).lower(),
        timestamp_required=bool(stamped),
    )
    if user and not password:
        raise TidegateError("TIDEGATE_WEBHOOK_BASIC has no password; write it as user:password")
    settings = WebSettings(host, port, secrets)
    if not settings.is_loopback:
        _require_token(secrets, host)
    return settings


def _require_token(secrets: Secrets, host: str) -> None:
    """Beyond loopback anybody may guess: a token there must be, and none of the secrets short."""
    if secrets.token is None:
        raise TidegateError(
            f"listening on {host} opens tidegate to the network: set TIDEGATE_WEB_TOKEN or TIDEGATE_WEB_TOKEN_FILE, or listen on 127.0.0.1"
        )
    named = (
        ("TIDEGATE_WEB_TOKEN", secrets.token),
        ("TIDEGATE_WEBHOOK_TOKEN", secrets.webhook_token),
        ("the password in TIDEGATE_WEBHOOK_BASIC", secrets.webhook_password),
        ("TIDEGATE_WEBHOOK_HMAC_SECRET", secrets.hmac_secret),
    )
    for name, value in named:
        if value is not None and len(value) < SHORTEST_SECRET_CHARACTERS:
            raise TidegateError(f"{name} is shorter than {SHORTEST_SECRET_CHARACTERS} characters; make one with: openssl rand -hex 32")


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise TidegateError(f"{listen!r} is not an address to listen on; write host:port, such as {DEFAULT_LISTEN}")
    return host.strip("[]") or "127.0.0.1", int(port)


def secret(name: str, variables: Mapping[str, str]) -> str | None:
    """Return a secret from its variable or from the file that NAME_FILE names, without the newline at the file's end."""
    file = variables.get(f"{name}_FILE")
    if variables.get(name) or not file:
        return variables.get(name) or None
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TidegateError(f"{name}_FILE cannot be read: {type(error).__name__}") from error
    if not text:
        raise TidegateError(f"the file that {name}_FILE names is empty")
    return text
