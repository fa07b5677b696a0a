"""Secrets that stand in a policy: values that look like passwords, keys or tokens.

Owns what looks like one; a policy is stored, shown and logged, so a secret in it is an error, and its value is never printed.
What to write instead: the name of an environment variable or of a mounted file.
"""

import re
from collections.abc import Iterator, Mapping

from policies.problems import Finding, Path

_SECRET_KEY = re.compile(  # after a beginning, a sign or, in camelCase, a small letter: token, api_token, bearerToken
    r"(^|[-_.]|(?<=[a-z0-9])(?=[A-Z]))"
    r"(?i:authorization|cookie|password|passwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credentials?)$"
)
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*@", re.IGNORECASE)
_QUERY_SECRET = re.compile(r"[?&](token|access_token|api_?key|key|password|secret|sig|signature)=[^&\s]+", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bglsa_[A-Za-z0-9_]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\b(sk|rk|pk)-[A-Za-z0-9_-]{20,}"
    r"|\bhf_[A-Za-z0-9]{20,}"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|^(Bearer|Basic)\s+[A-Za-z0-9+/=._-]{8,}$"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_INSTEAD = "a policy must not hold secrets: name an environment variable (…Env) or a mounted file (…File) under `auth` instead"


def find_secrets(tree: object, path: Path = ()) -> Iterator[Finding]:
    """Yield a finding for each value that looks like a secret; the value itself is kept out of it."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from find_secrets(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from find_secrets(value, (*path, index))
    elif isinstance(tree, str) and tree:
        what = _looks_like(str(path[-1]) if path else "", tree)
        if what:
            yield Finding(path, f"{what}; {_INSTEAD}", secret=True)


def _looks_like(key: str, value: str) -> str:
    if _USER_INFO.search(value):
        return "the address holds a user or a password"
    if _QUERY_SECRET.search(value):
        return "the address holds a key or a token"
    if _TOKEN.search(value):
        return "looks like a token or a key"
    if _SECRET_KEY.search(key):
        return "looks like a secret by its name"
    return ""
