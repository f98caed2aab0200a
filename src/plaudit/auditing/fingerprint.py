"""What a finding is known by from one audit to the next, whatever seed, effort and numbers it came with."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from plaudit.auditing.finding import Finding

_NUMBERS = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)
LENGTH = 16


def fingerprint(target: str, env: str, finding: Finding) -> str:
    """16 hexadecimal digits for (target, environment, check, kind of claim).

    Titles, severities, costs and evidence do not enter, since they are measured; numbers inside a kind (a step, a
    size, an address) count as one. A target file below the working folder is known by its relative path.

    Example:
        >>> now = Finding(check="exploit", severity="high", title="circling earns 312")
        >>> later = Finding(check="exploit", severity="medium", title="circling earns 298")
        >>> fingerprint("rewards.py:speed", "Boat", now) == fingerprint("rewards.py:speed", "Boat", later)
        True
    """
    text = "\n".join([relative(target), env, claim(finding.check, finding.kind)])
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def claim(check: str, kind: str) -> str:
    """A check and the kind of its claim, without numbers.

    Example:
        >>> claim("contract", "unknown: step 12 raised") == claim("contract", "unknown: step 9 raised")
        True
    """
    return f"{check}\n{_NUMBERS.sub('#', ' '.join(kind.split()))}"


def relative(target: str) -> str:
    """`file.py:name` with the file as seen from the working folder, if it lies below it.

    Example:
        >>> relative(f"{Path.cwd() / 'rewards.py'}:speed"), relative("CartPole-v1")
        ('rewards.py:speed', 'CartPole-v1')
    """
    head, colon, name = target.rpartition(":")
    path, here = Path(head), Path.cwd()
    if not colon or path.suffix != ".py":
        return target
    full = (here / path).resolve()
    return f"{full.relative_to(here.resolve()).as_posix()}:{name}" if full.is_relative_to(here.resolve()) else target
