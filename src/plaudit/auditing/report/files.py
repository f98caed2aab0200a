"""Writes an audit into a folder: page, JSON, SARIF, JUnit and witnesses; a folder that is not ours is left alone."""

from __future__ import annotations

import html
import json
import logging
import secrets
import shutil
from pathlib import Path

from plaudit.auditing.report.folders import ROOT, check_folder, next_folder
from plaudit.auditing.report.junit import junit
from plaudit.auditing.report.model import AuditReport, witness_file
from plaudit.auditing.report.sarif import sarif
from plaudit.core.checkpoint import write_text
from plaudit.core.errors import PlauditError

__all__ = ["check_folder", "junit", "next_folder", "sarif", "write_all", "write_next"]

_OURS = ("report.html", "report.json", "report.sarif", "junit.xml", "witness-*.json", "witness-*.safetensors")
log = logging.getLogger(__name__)


def write_all(report: AuditReport, folder: Path, *, replace: bool = True) -> Path:
    """Writes every file of the report; a new folder appears whole, or not at all.

    In a folder of an earlier audit its files are replaced (unless `replace` is False), and others left alone.

    Raises:
        BadInput: when the folder is not ours.
        PlauditError: when it cannot be written (a full disk, say); nothing half-written is left.
    """
    check_folder(folder)
    texts = _texts(report, folder)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.draft")
    try:
        draft.mkdir(parents=True)
        for i, finding in enumerate(report.findings, 1):
            if finding.witness is not None:
                finding.witness.save(draft / witness_file(i))
        for name, text in texts.items():
            write_text(draft / name, text)
        _move(draft, folder, replace=replace)
    except (OSError, PlauditError) as error:
        cause = error.__cause__ if isinstance(error, PlauditError) else error
        reason = getattr(cause, "strerror", None) or str(cause or error)
        raise PlauditError(f"could not write the report to {folder}: {reason}; nothing half-written is left; "
                           "free some space or name another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def write_next(report: AuditReport, root: Path = ROOT) -> Path:
    """Writes a report into the next numbered folder, also where another audit takes the number meanwhile."""
    for _ in range(100):
        folder = next_folder(root)
        try:
            return write_all(report, folder, replace=False)
        except PlauditError:
            if next_folder(root) == folder:
                raise
    raise PlauditError(f"could not find a free number in {root}")


def _move(draft: Path, folder: Path, *, replace: bool) -> None:
    """Puts the finished files in place; those of an earlier audit in this folder are replaced one by one."""
    if not folder.exists() or not replace:
        draft.rename(folder)  # refused where somebody else was faster
        return
    new = sorted(draft.iterdir(), key=lambda p: p.name == "report.json")
    names = {p.name for p in new}
    for path in new:
        path.replace(folder / path.name)
    for old in (p for pattern in _OURS for p in folder.glob(pattern) if p.name not in names):
        old.unlink()


def _texts(report: AuditReport, folder: Path) -> dict[str, str]:
    data = report.to_dict()
    for finding in data["findings"]:
        if finding["witness"]:
            finding["replay"] = f"plaudit replay {folder / finding['witness']}"
    return {"report.html": _page(report), "report.sarif": json.dumps(sarif(report), indent=1, allow_nan=False),
            "junit.xml": junit(report), "report.json": json.dumps(data, indent=1, allow_nan=False)}


def _page(report: AuditReport) -> str:
    """The page; in words only, where it cannot be drawn: its loss must not cost the other files."""
    try:
        from plaudit.auditing.report.page import page

        return page(report)
    except Exception:
        log.exception("the page could not be drawn")
        return f"<!doctype html><meta charset=utf-8><title>plaudit</title><pre>{html.escape(str(report))}</pre>\n"
