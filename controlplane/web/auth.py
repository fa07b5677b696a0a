"""Who may speak: bearer tokens, basic passwords and HMAC signatures, compared in constant time. Pure: the time is an argument.

Owns the answer yes or no; it must not say why to the caller, nor log what was presented. `routes` turns a no into 401.
The HMAC is Grafana's: lower-case hex HMAC-SHA256 of the raw body, or of `<unix seconds>:<body>` where a time header comes with it.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from controlplane.web.settings import Secrets


def may_use(secrets: Secrets, headers: Mapping[str, str]) -> bool:
    """Whether a request may use the API: the token, or no token asked for."""
    return secrets.token is None or _bearer_is(headers, (secrets.token,))


def presents_proof(secrets: Secrets, headers: Mapping[str, str]) -> bool:
    """Whether a webhook brings anything to check; if not, its body need not be read."""
    return not secrets.guards_webhooks or "authorization" in headers or any(name in headers for name in secrets.signature_headers)


def may_alert(secrets: Secrets, headers: Mapping[str, str], body: bytes, now_unix: float, window_seconds: float) -> bool:
    """Whether a webhook is believed: any one configured proof that holds. A signature that is there must hold, whatever else does."""
    if not secrets.guards_webhooks:
        return True
    signatures = [headers[name] for name in secrets.signature_headers if name in headers]
    if secrets.hmac_secret is not None and signatures:
        stamp = headers.get(secrets.timestamp_header)
        return all(_is_signed(secrets, signature, stamp, body, now_unix, window_seconds) for signature in signatures)
    tokens = tuple(token for token in (secrets.token, secrets.webhook_token) if token is not None)
    return _bearer_is(headers, tokens) or _basic_is(headers, secrets)


def signature_of(secret: str, body: bytes, stamp: str | None = None) -> str:
    """Return the signature that Grafana sends for a body."""
    signed = body if stamp is None else stamp.encode("latin-1", "replace") + b":" + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _is_signed(secrets: Secrets, signature: str, stamp: str | None, body: bytes, now_unix: float, window_seconds: float) -> bool:
    if secrets.hmac_secret is None or (stamp is None and secrets.timestamp_required):
        return False
    is_right = _same(signature, signature_of(secrets.hmac_secret, body, stamp))
    if stamp is None:
        return is_right
    is_number = stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12
    return is_right and is_number and abs(now_unix - int(stamp)) <= window_seconds


def _bearer_is(headers: Mapping[str, str], tokens: tuple[str, ...]) -> bool:
    scheme, _, presented = headers.get("authorization", "").partition(" ")
    # Every token is compared, so that the time taken does not tell which one came near.
    matches = [_same(presented.strip(), token) for token in tokens]
    return scheme.lower() == "bearer" and any(matches)


def _basic_is(headers: Mapping[str, str], secrets: Secrets) -> bool:
    if secrets.webhook_password is None:
        return False
    scheme, _, presented = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        plain = base64.b64decode(presented.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    wanted = f"{secrets.webhook_user or ''}:{secrets.webhook_password}".encode()
    return hmac.compare_digest(plain, wanted)


def _same(presented: str, wanted: str) -> bool:
    # Header values arrive as latin-1 text; bytes compare in constant time whatever is in them.
    return hmac.compare_digest(presented.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))
