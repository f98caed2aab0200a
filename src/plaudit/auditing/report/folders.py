"""Where a report goes: a numbered folder, or one that the user names, and never somebody else's."""

from __future__ import annotations

import tempfile
from pathlib import Path

from plaudit.core.errors import BadInput

ROOT = Path("audits")


def next_folder(root: str | Path = ROOT) -> Path:
    """The next numbered folder: `audits/001`, `audits/002`, ..."""
    root = Path(root)
    taken = [int(p.name) for p in root.iterdir() if p.name.isdigit()] if root.is_dir() else []
    return root / f"{max(taken, default=0) + 1:03d}"


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds something other than an audit, or cannot be written, before any work is done.

    Raises:
        BadInput: when the folder exists and is neither empty nor the output of an audit, or is a file, or lies
            where we may not write.
    """
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / "report.json").is_file():
            raise BadInput("out", expected="a new or empty folder, or one that an audit wrote", received=str(folder),
                           fix="name another one; nothing was touched")
    elif folder.exists() or folder.is_symlink():
        raise BadInput("out", expected="a folder", received=f"the file {folder}")
    above = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    if not above.is_dir():
        raise BadInput("out", expected="a folder below folders", received=f"{folder}, where {above} is a file")
    try:
        with tempfile.TemporaryDirectory(dir=above):
            pass
    except OSError as error:
        raise BadInput("out", expected="a folder that may be written",
                       received=f"{folder}, no permission in {above} ({error.strerror})") from error
