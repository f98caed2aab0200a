"""Runs the audits of the record: one job for each reward and effort, kept as soon as it is finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.auditing.audit import audit
from plaudit.auditing.checks import BUILT_IN
from plaudit.auditing.finding import SEVERITIES
from plaudit.auditing.record.rewards import chosen, in_order, make
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.jobs import Progress, name_of, run_jobs
from plaudit.core.provenance import code_hash

if TYPE_CHECKING:
    from plaudit.auditing.report.model import AuditReport

EFFORTS = (1.0, 5.0)
"""Multiples of the default effort."""


def audit_one(name: str, effort: float, seed: int, commit: str = "", device: str = "cpu") -> dict[str, Any]:
    """Audits one reward of the record with all checks, and notes what they said.

    Args:
        name: `flaw:NAME` or `healthy:NAME`.
        effort: a multiple of the default effort.
        seed: the root of the audit's randomness.
        commit: of the code that runs, for the record.
        device: where the audit's learners live.

    Returns:
        What `noted` makes of it; `measured` names the device where it is not the CPU.
    """
    def go() -> AuditReport:
        reward, task, intent = make(name)
        return audit(reward, env=task, intent=intent, effort=effort, seed=seed, only=BUILT_IN, repair=False,
                     device=device)

    row = noted(go, name=name, effort=effort, seed=seed)
    return {**row, "measured": {**row["measured"], "commit": commit, **_unless_cpu(device)}}


def noted(audited: Callable[[], AuditReport], *, name: str, effort: float, seed: int) -> dict[str, Any]:
    """Runs an audit, and writes down what it said.

    Args:
        audited: the audit.
        name: of the reward.
        effort: a multiple of the default effort.
        seed: the root of the audit's randomness.

    Returns:
        JSON: `found` (the worst severity by check), `titles`, `checks` (how each ended), `why` (those that were skipped
        were), `verdict`, `safe`, `steps`, `error` where the audit itself failed, and under `measured` what differs from
        run to run.
    """
    began = time.process_time()
    row: dict[str, Any] = {"name": name, "effort": effort, "seed": seed, "found": {}, "titles": {}, "checks": {},
                           "verdict": None, "safe": None, "steps": 0, "error": None}
    try:
        report = audited()
    except PlauditError as error:
        row["error"] = str(error)
    else:
        for f in report.findings:  # worst first
            row["found"].setdefault(f.check, f.severity)
            row["titles"].setdefault(f.check, f.title)
        row |= {"checks": {c.name: c.status for c in report.checks}, "verdict": report.verdict.sentence,
                "safe": report.verdict.safe, "steps": report.verdict.effort["steps"],
                "why": {c.name: c.why for c in report.checks if c.status == "skipped"}}
    return {**row, "measured": {"cpu_s": round(time.process_time() - began, 2)}}


def found_by(row: Mapping[str, Any], *, threshold: str = "medium") -> list[str]:
    """The checks with a finding of at least this severity.

    Example:
        >>> found_by({"found": {"scale": "low", "exploit": "high"}})
        ['exploit']
    """
    return [c for c, s in row["found"].items() if SEVERITIES.index(s) >= SEVERITIES.index(threshold)]


def jobs_of(*, efforts: Sequence[float], names: Sequence[str] | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """The audits of the record in the order in which they run: the default effort first, dearer ones by their cost."""
    mine = chosen(names)
    return [{"name": e.name, "effort": float(effort), "seed": seed} for effort in sorted(efforts)
            for e in in_order(mine, cheap_first=effort > 1)]


def shard_of(jobs: Sequence[dict[str, Any]], shard: str) -> list[dict[str, Any]]:
    """Every n-th job, counted from the k-th: `k/n`.

    Raises:
        BadInput: when it is not of that form.

    Example:
        >>> shard_of([{"name": x} for x in "abcde"], "2/2")
        [{'name': 'b'}, {'name': 'd'}]
    """
    k, _, n = shard.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise BadInput("shard", expected="K/N with 1 <= K <= N", received=shard, fix="such as --shard 2/8")
    return list(jobs[int(k) - 1::int(n)])


def run_record(jobs: Sequence[dict[str, Any]], *, parts: Path, ray: Any = None, keep: bool = False,
               redo: Sequence[str] = (), commit: str = "", device: str = "cpu",
               progress: Progress | None = None) -> None:
    """Makes the audits that are missing in a folder of parts; a kill loses only the one that runs.

    Args:
        jobs: of `jobs_of`.
        parts: the folder; several shards may share it.
        ray: as in `run_jobs`.
        keep: whether audits that earlier code made stand; else those of the present code alone.
        redo: names of rewards that are audited anew in spite of `keep`.
        commit: noted in each part.
        device: where the audits' learners live; those that were made on another are made anew.
        progress: told the share done and the reward just finished.

    Raises:
        BadInput: for a device that is not here.
    """
    version, device = code_version(), check_device(device)
    there = {_key(row) for row in collect(parts, version=None if keep else version)
             if row["measured"].get("device", "cpu") == device}
    jobs = [j for j in jobs if (keep and j["name"] in redo) or _key(j) not in there]
    run_jobs(audit_one, [{**j, "commit": commit, **_unless_cpu(device)} for j in jobs], ray=ray, folder=parts,
             version=version, names=[f"{j['name']} at {j['effort']:g}" for j in jobs], progress=progress)


def code_version() -> str:
    """The hash of all code that an audit of the record can reach."""
    return code_hash(__name__)


def collect(parts: Path, *, version: str | None = None) -> list[dict[str, Any]]:
    """The finished audits in a folder of parts, the newest of each reward and effort; half-written files are none.

    Args:
        parts: the folder.
        version: only those that this code made.
    """
    newest: dict[Any, tuple[float, dict[str, Any]]] = {}
    for path in sorted(parts.glob("*.json")) if parts.exists() else ():
        try:
            part = json.loads(path.read_text(encoding="utf-8"))
            (function, _, made_by), row = part["key"], part["value"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if function != name_of(audit_one) or version not in (None, made_by):
            continue
        row["measured"]["code"] = made_by
        when = path.stat().st_mtime
        if _key(row) not in newest or when >= newest[_key(row)][0]:
            newest[_key(row)] = when, row
    return [row for _, row in sorted(newest.values(), key=lambda pair: (pair[1]["effort"], pair[1]["name"]))]


def _unless_cpu(device: str) -> dict[str, str]:
    """So that audits on the CPU are kept under the names that they have always had."""
    return {} if device == "cpu" else {"device": device}


def _key(row: Mapping[str, Any]) -> tuple[str, float, int]:
    return row["name"], float(row["effort"]), int(row["seed"])
