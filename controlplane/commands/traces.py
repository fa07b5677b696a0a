"""The body of `tidegate traces`: what is at hand, and where the rest can be had.

Owns the listing's form; `controlplane.traces.library` knows the traces.
"""

import json
from dataclasses import asdict

from controlplane.config import environment_variables
from controlplane.contracts.units import format_duration
from controlplane.traces.library import TraceInfo, data_folders, list_traces


def list_command(as_json: bool) -> str:
    """Return the list as text, or as JSON with every detail."""
    folders = data_folders(environment_variables())
    infos = list_traces(folders)
    if as_json:
        return json.dumps([asdict(info) | {"present": info.present} for info in infos], indent=2, default=str)
    here = [info for info in infos if info.present]
    away = [info for info in infos if not info.present]
    looked = ", ".join(str(folder) for folder in folders)
    parts = [f"at hand (looked in {looked}):" if here else f"no trace is at hand (looked in {looked})", *map(_here, here)]
    if away:
        how = "not at hand; make it from the public data named, and put it into a folder above or one that TIDEGATE_DATA names:"
        parts += ["", how, *map(_away, away)]
    return "\n".join(parts)


def _here(info: TraceInfo) -> str:
    shape = f"{info.rows} rows" if info.rows else "unread"
    if info.step_seconds and info.span_seconds:
        shape += f", a row each {format_duration(info.step_seconds)}, {format_duration(info.span_seconds)} in all"
    columns = f"; columns {', '.join(info.columns)}" if info.columns else ""
    series = f"; series {', '.join(f'{info.name}#{name}' for name in info.series)}" if info.series else ""
    note = f"\n      {info.note}" if info.note else ""
    return (
        f"  {info.name}\n      {shape}{columns}{series}{note}\n      {info.source or 'your own file'}; licence: {info.licence or 'yours'}"
    )


def _away(info: TraceInfo) -> str:
    return f"  {info.file}\n      {info.url or info.source}; licence: {info.licence}"
