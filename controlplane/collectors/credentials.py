"""Who we are to a metrics endpoint: bearer, basic or a client certificate, out of the environment or mounted files.

Owns reading them, and reading a file again when it changed, so that a rotated token needs no restart. A policy names places, never
secrets; nothing here is logged. `prometheus_api` and `scrape` use it.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controlplane.collectors.api import SourceError
from controlplane.config import read_secret

TENANT_HEADER = "X-Scope-OrgID"


class Login:
    """Headers and certificates of one endpoint, from a source's options. `secret` reads an environment variable."""

    def __init__(self, options: Mapping[str, Any], secret: Callable[[str], str | None] = read_secret) -> None:
        auth = options.get("auth") or {}
        self._auth: Mapping[str, Any] = auth
        self._secret = secret
        self._file: tuple[float, str] | None = None
        self._headers = dict(options.get("headers") or {})
        if options.get("tenant"):
            self._headers[TENANT_HEADER] = str(options["tenant"])
        self.ca_file: str | None = auth.get("ca_file")
        self.client_certificate: tuple[str, str] | None = None
        if auth.get("cert_file") and auth.get("key_file"):
            self.client_certificate = (str(auth["cert_file"]), str(auth["key_file"]))

    def headers(self) -> dict[str, str]:
        """Return the headers of a request now; SourceError where a secret is not there."""
        headers = dict(self._headers)
        token = self._bearer()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        elif self._auth.get("username_env"):
            pair = f"{self._environment('username_env')}:{self._environment('password_env')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return headers

    def _bearer(self) -> str | None:
        if self._auth.get("bearer_token_env"):
            return self._environment("bearer_token_env")
        if not self._auth.get("bearer_token_file"):
            return None
        path = Path(str(self._auth["bearer_token_file"]))
        try:
            changed = path.stat().st_mtime
            if self._file is None or self._file[0] != changed:
                self._file = (changed, path.read_text().strip())
        except OSError as error:
            raise SourceError(f"the bearer token file {path} cannot be read: {error.strerror}", retryable=False) from error
        return self._file[1]

    def _environment(self, field: str) -> str:
        name = str(self._auth.get(field) or "")
        value = self._secret(name)
        if value is None:
            raise SourceError(f"the environment variable {name} that the policy names is not set", retryable=False)
        # As in a file: a newline at the end belongs to whatever wrote it.
        return value.strip()
