"""The text of a policy file → policies, compiled fleets, and every problem at once with file, line, path and value.

Owns the order of the passes: YAML, single fields (`schema`), fields together (`check`, `secrets`), compilation, then `advice`.
It must not read files: `controlplane.policy_files` does and hands over their text.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from controlplane.contracts.fleet import Fleet, Tier
from policies.advice import advise
from policies.capacity import Profile
from policies.check import check_tree, entries
from policies.compile import compile_fleet
from policies.document import Document, read_documents
from policies.eligible import Barred, Carries, carries_of, look_up, offer_blocks
from policies.problems import Finding, Problem, Severity, findings_of, path_text, value_at, value_text
from policies.schema import API_VERSION, KIND, FleetPolicy, ServingBlock
from policies.schema_offers import BurstOffer, FloorOffer
from policies.secrets import find_secrets


@dataclass(frozen=True, slots=True)
class Known:
    """What only the outside knows: names of time zones and of forecasters (empty: not checked), and the user's own serving profiles."""

    time_zones: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    profiles: tuple[Profile, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """A policy that can be used: its model, the fleet it compiles to, and the document it came from."""

    policy: FleetPolicy
    fleet: Fleet
    document: Document


@dataclass(frozen=True, slots=True)
class Reading:
    """All that came of some texts. The policies without errors are there even where others have some."""

    policies: tuple[ReadPolicy, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make a policy unusable."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Likely mistakes."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.WARNING)


def read_policies(texts: Iterable[tuple[str, str]], known: Known = Known()) -> Reading:
    """Read (file name, text) pairs; nothing is raised, every problem of every document is in the answer, in file order."""
    read: list[ReadPolicy] = []
    problems: list[Problem] = []
    names: dict[str, str] = {}
    workloads: dict[tuple[object, ...], str] = {}
    rented: dict[str, tuple[object, str]] = {}
    for file, text in texts:
        documents, complaints = read_documents(text, file)
        found = list(complaints)
        if not documents and not complaints:
            found.append(Problem(file, 0, "", "", f"holds no document; begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`"))
        for document in documents:
            policy, findings = _read_one(document, known)
            findings += _check_fleet_name(document, names)
            findings += [*_check_workloads(document, workloads), *_check_rented(document, rented)]
            secret = {finding.path for finding in findings if finding.secret}
            found += [_placed(document, finding, finding.path in secret) for finding in findings]
            if policy is not None:
                read.append(policy)
        problems += sorted(found, key=lambda problem: problem.line)
    return Reading(tuple(read), tuple(problems))


def _read_one(document: Document, known: Known) -> tuple[ReadPolicy | None, list[Finding]]:
    """Return the policy if it has no error, and all findings about it."""
    if not isinstance(document.tree, dict):
        return None, [Finding((), f"must be a mapping that begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`")]
    kind = document.tree.get("kind")
    if isinstance(kind, str) and kind != KIND:
        wrong = Finding(("kind",), f"is not known; the only kind is {KIND}")
        if not str(document.tree.get("apiVersion", "")).startswith(API_VERSION.partition("/")[0] + "/"):
            return None, [wrong]
        # A mistyped kind of ours: what else is wrong is told at once too.
        return None, [wrong, *_read_one(replace(document, tree={**document.tree, "kind": KIND}), known)[1]]
    findings = [*check_tree(document.tree), *find_secrets(document.tree), *_check_known(document.tree, known)]
    try:
        policy = FleetPolicy.model_validate(document.tree)
    except ValidationError as error:
        return None, findings_of(error, FleetPolicy) + findings + _look_up_anyway(document.tree, known)
    carried = [(path, carries_of(policy.spec, block, path, known.profiles)) for path, block in offer_blocks(policy.spec)]
    findings += [carries for _, carries in carried if isinstance(carries, Finding)]
    barred = [carries for _, carries in carried if isinstance(carries, Barred)]
    may_serve = len(barred) < len(carried)
    findings += [] if may_serve else [_not_eligible(offer, Severity.ERROR) for offer in barred]
    if findings:
        return None, findings + ([_not_eligible(offer) for offer in barred] if may_serve else [])
    fleet = compile_fleet(policy, known.profiles)
    doubts = [
        Finding((*path, "profile"), carries.doubt, Severity.WARNING)
        for path, carries in carried
        if isinstance(carries, Carries) and carries.doubt
    ]
    return ReadPolicy(policy, fleet, document), [*map(_not_eligible, barred), *doubts, *advise(policy, fleet)]


def _not_eligible(offer: Barred, severity: Severity = Severity.WARNING) -> Finding:
    """Return what is said of an offer that may not serve: a warning, and an error where none is left that may."""
    rest = "nothing is bought from it" if severity is Severity.WARNING else "and no other offer is left"
    return Finding(offer.path, f"not eligible, {rest}: {offer.reason}", severity)


def _look_up_anyway(tree: object, known: Known) -> list[Finding]:
    """Return what is wrong with the capacities of offers that are good, in a document that is not, so that it is not news next time."""
    findings = []
    try:
        serving = ServingBlock.model_validate(value_at(tree, ("spec", "serving")))
    except ValidationError:
        return []
    for tier, model in ((Tier.FLOOR, FloorOffer), (Tier.BURST, BurstOffer)):
        for path, entry in entries(tree, tier):
            try:
                block = model.model_validate(entry)
            except ValidationError:
                continue
            found = look_up(serving, block, path, known.profiles)
            if found is not None:
                findings.append(_not_eligible(found) if isinstance(found, Barred) else found)
    return findings


def _check_known(tree: object, known: Known) -> list[Finding]:
    findings = []
    zone = value_at(tree, ("spec", "forecast", "timeZone"))
    if known.time_zones and isinstance(zone, str) and zone not in known.time_zones:
        findings.append(Finding(("spec", "forecast", "timeZone"), "is not an IANA time zone such as Europe/Berlin or UTC"))
    methods = value_at(tree, ("spec", "forecast", "methods"))
    for index, method in enumerate(methods if isinstance(methods, list) else []):
        if known.methods and isinstance(method, str) and method not in known.methods:
            message = f"is not a forecaster; known are {', '.join(sorted(known.methods))}"
            findings.append(Finding(("spec", "forecast", "methods", index), message))
    return findings


def _check_fleet_name(document: Document, names: dict[str, str]) -> list[Finding]:
    path = ("metadata", "name")
    name = value_at(document.tree, path)
    if not isinstance(name, str):
        return []
    if name in names:
        return [Finding(path, f"is also the name of the fleet in {names[name]}; give each fleet its own name")]
    names[name] = f"{document.file}:{document.line_of(path)}"
    return []


def _check_workloads(document: Document, seen: dict[tuple[object, ...], str]) -> list[Finding]:
    """Return an error for each Kubernetes workload that two offers would scale against each other, in one fleet or in two."""
    findings = []
    for tier in (Tier.FLOOR, Tier.BURST):
        for path, entry in entries(document.tree, tier):
            block = entry.get("kubernetes")
            if not isinstance(block, dict) or not isinstance(block.get("name"), str):
                continue
            defaults = {"context": "", "kind": "Deployment", "namespace": "default"}
            workload = (*(str(block.get(key, default)) for key, default in defaults.items()), block["name"])
            here = (*path, "kubernetes", "name")
            if workload in seen:
                message = f"this workload is also scaled by the offer in {seen[workload]}; the two would undo each other: give each its own"
                findings.append(Finding(here, message))
            seen.setdefault(workload, f"{document.file}:{document.line_of(here)}")
    return findings


def _check_rented(document: Document, seen: dict[str, tuple[object, str]]) -> list[Finding]:
    """Return an error for each rented offer that another fleet has under the same name as another thing: quotes travel by the name."""
    findings = []
    for path, entry in entries(document.tree, Tier.BURST):
        name = entry.get("name")
        if not isinstance(name, str):
            continue
        thing = {key: entry.get(key) for key in ("accelerator", "usdPerReplicaHour", "aws", "market", "simulated")}
        here = (*path, "name")
        known, where = seen.setdefault(name, (thing, f"{document.file}:{document.line_of(here)}"))
        if known != thing:
            message = f"is also the name of another offer in {where}; prices and stock travel by the offer's name: rename one of them"
            findings.append(Finding(here, message))
    return findings


def _placed(document: Document, finding: Finding, secret: bool) -> Problem:
    value = "" if secret else value_text(value_at(document.tree, finding.path, default=()))
    return Problem(document.file, document.line_of(finding.path), path_text(finding.path), value, finding.message, finding.severity)
