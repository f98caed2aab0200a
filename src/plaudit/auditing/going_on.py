"""What an audit leaves behind while it runs, so that one that was killed can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.auditing.asking import Event, Listener
from plaudit.auditing.context import AuditContext
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.jobs import Kept
from plaudit.core.naming import file_hash
from plaudit.core.provenance import package_hash
from plaudit.core.targets import load_target
from plaudit.optimize.parcels import pack_reward


def opened(folder: str | Path | None, context: AuditContext, *, asked: Any, resume: bool,
           tell: Listener) -> Kept | None:
    """Where this audit keeps what is finished: a place of its own for each reward, task and set of arguments.

    Without `resume` what lies there is thrown away. Files that a reward or an environment imports are not looked at,
    only those that they stand in.

    Args:
        folder: for the places of all audits; None keeps nothing.
        context: with the task, the reward and the intent.
        asked: JSON that the searches depend on beside them.
        resume: whether to go on.
        tell: told what is gone on with.

    Raises:
        BadInput: for `resume` without a folder.
    """
    if folder is None:
        if resume:
            raise BadInput("resume", expected="a folder in which searches are kept", received="none",
                           fix="pass keep=, the folder of the audit that was stopped")
        return None
    try:
        identity = _identity(context, asked)
    except Unsupported as error:
        if resume:
            tell(Event(kind="note", text=f"beginning anew, since its searches cannot be kept: {error}"))
        return None
    kept = Kept(folder=Path(folder) / identity, needed=False)  # a full disk must not cost the audit itself
    parts = len(list((Path(folder) / identity).glob("*.json")))
    if not resume:
        kept.forget()
    elif parts:
        tell(Event(kind="note", text=f"going on: {parts} {'part' if parts == 1 else 'parts'} of an audit that was "
                                     "stopped are finished"))
    else:
        tell(Event(kind="note", text="nothing to go on with: no audit with these arguments and files was stopped; "
                                     "beginning anew"))
    return kept


def _identity(context: AuditContext, asked: Any) -> str:
    intent = context.intent
    parts = [_with_hash(context.task.spec()), pack_reward(context.reward),
             None if intent is None else [intent.statement, pack_reward(intent.as_reward())],
             context.seed, context.discount, context.device, asked, package_hash()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _with_hash(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A task's spec with the hash of the file that its class stands in."""
    if spec.get("kind") != "target":
        return dict(spec)
    file = load_target(spec["target"]).path
    return {**spec, "sha256": None if file is None else file_hash(file)}
