"""Files and environment → fleets: the only reader of os.environ.

Owns the loading of policies from disk and the settings that environment variables carry.
It must not decide anything; `policies.reading` finds what is wrong, and callers act on the fleets.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

from controlplane.contracts.errors import PolicyError, TidegateError
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import parse_duration
from controlplane.policy_files import read_texts
from forecasters.registry import METHODS
from policies.capacity import Profile
from policies.capacity_file import read_profiles
from policies.reading import Known, Reading, read_policies


@dataclass(frozen=True, slots=True)
class Environment:
    """What tidegate takes from environment variables; None where one is not set or empty."""

    nats_url: str | None = None
    nats_credentials_file: Path | None = None
    nats_sync_seconds: float | None = None
    data_folder: Path | None = None
    profiles_file: Path | None = None
    no_colour: bool = False
    kubebuilder_assets: Path | None = None


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Return the settings of TIDEGATE_NATS, TIDEGATE_NATS_CREDENTIALS, TIDEGATE_NATS_SYNC, TIDEGATE_DATA, TIDEGATE_PROFILES, NO_COLOR,
    KUBEBUILDER_ASSETS; TidegateError where one is not what it must be.
    """
    source = os.environ if variables is None else variables

    def path(name: str) -> Path | None:
        return Path(source[name]).expanduser() if source.get(name) else None

    return Environment(
        nats_url=source.get("TIDEGATE_NATS") or None,
        nats_credentials_file=path("TIDEGATE_NATS_CREDENTIALS"),
        nats_sync_seconds=_sync_seconds(source["TIDEGATE_NATS_SYNC"]) if source.get("TIDEGATE_NATS_SYNC") else None,
        data_folder=path("TIDEGATE_DATA"),
        profiles_file=path("TIDEGATE_PROFILES"),
        no_colour=bool(source.get("NO_COLOR")),
        kubebuilder_assets=path("KUBEBUILDER_ASSETS"),
    )


def _sync_seconds(text: str) -> float:
    try:
        return 0.0 if text == "always" else parse_duration(text)
    except ValueError as error:
        raise TidegateError(f"TIDEGATE_NATS_SYNC: {error}, or always") from error


def environment_variables() -> Mapping[str, str]:
    """Return the process's environment, for rooms that take it as an argument."""
    return dict(os.environ)


def read_secret(name: str, variables: Mapping[str, str] | None = None) -> str | None:
    """Return the value of an environment variable that a policy names, such as `bearerTokenEnv`; None where it is not set."""
    return (os.environ if variables is None else variables).get(name) or None


def own_profiles(file: Path | None) -> tuple[Profile, ...]:
    """Return the serving profiles of the user's own file, none where no file is named; PolicyError says what is wrong with it."""
    if file is None:
        return ()
    try:
        return read_profiles(file.read_text(encoding="utf-8-sig"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise PolicyError(f"the profile file {file} cannot be read: {why}; name a CSV of measurements that is there") from error


def load_policies(paths: Sequence[Path]) -> Reading:
    """Return every policy of files and folders with all problems; nothing is raised for a bad policy, PolicyError for bad profiles."""
    texts, problems = read_texts(paths)
    known = Known(frozenset(available_timezones()), frozenset(METHODS), own_profiles(read_environment().profiles_file))
    reading = read_policies(texts, known)
    return Reading(reading.policies, (*problems, *reading.problems))


def load_fleets(paths: Sequence[Path]) -> tuple[Fleet, ...]:
    """Return the fleets of files and folders; PolicyError's text lists every error of all of them, one a line."""
    reading = load_policies(paths)
    if reading.errors:
        raise PolicyError("\n".join(str(problem) for problem in reading.errors))
    return tuple(read.fleet for read in reading.policies)
