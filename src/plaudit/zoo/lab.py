"""Runs a system: unit by unit so that it can be killed and goes on, then the verdict, the file and the figure."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plaudit.core.checkpoint import replacing, write_text
from plaudit.core.errors import BadInput
from plaudit.core.provenance import code_hash, machine, versions
from plaudit.core.seeds import Seeds
from plaudit.zoo.contract import Scale, System, ZooResult, decide

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words."""


@dataclass(kw_only=True)
class Lab:
    """What a running experiment is given: seeds, a memory for finished units, and someone to tell how far it is.

    Example:
        >>> lab = Lab(seeds=Seeds(0))
        >>> lab.plan(2)
        >>> [lab.unit(f"square {i}", lambda i=i: i * i) for i in (3, 4)]
        [9, 16]
    """

    seeds: Seeds
    folder: Path | None = None
    """Where finished units are kept; None keeps none."""
    progress: Progress = field(default=lambda done, text: None)
    _total: int = 0
    _done: int = 0
    spent_before_s: float = 0.0
    """Seconds that earlier, interrupted runs spent on the units that were found."""

    def plan(self, units: int) -> None:
        """Says how many units there will be."""
        self._total += units

    def unit(self, name: str, work: Callable[[], Any]) -> Any:
        """The JSON value that `work` returns; read from disk where an earlier run already finished it."""
        value = self._remembered(name, work)
        self._done += 1
        self.progress(self._done / max(self._total, self._done), name)
        return value

    def _remembered(self, name: str, work: Callable[[], Any]) -> Any:
        if self.folder is None:
            return work()
        path = self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            self.spent_before_s += kept["seconds"]
            return kept["value"]
        start = time.perf_counter()
        value = work()
        write_text(path, json.dumps({"unit": name, "seconds": time.perf_counter() - start, "value": value}))
        return json.loads(json.dumps(value))


def run_system(system: System, *, scale: Scale = "small", seeds: int | None = None, config: Any = None,
               out: str | Path | None = None, seed: int = 0, progress: Progress | None = None) -> ZooResult:
    """Runs one system and writes `NAME.json` and `NAME.png` (`NAME-paper.*` at that scale).

    A run that was killed goes on where it stopped if it is started again with the same options and code.

    Args:
        system: which.
        scale: `smoke` proves that it runs, `small` is the honest replication, `paper` the size of the paper.
        seeds: how many, instead of the scale's own number.
        config: options instead of the scale's own.
        out: the folder for the result; None writes nothing.
        seed: the root of all randomness.
        progress: told the share done and the unit just finished.

    Raises:
        BadInput: for an unknown scale, fewer than 1 seed, or a result file that is not ours.
    """
    if scale not in system.scales:
        raise BadInput("scale", expected=f"one of {list(system.scales)}", received=scale)
    options = system.scales[scale] if config is None else config
    if seeds is not None:
        if seeds < 1:
            raise BadInput("seeds", expected="at least 1", received=seeds)
        options = replace(options, seeds=seeds)
    hashed = code_hash(system.run.__module__)
    folder = None if out is None else _units(Path(out), system.name, scale, asdict(options), seed, hashed)
    lab = Lab(seeds=Seeds(seed).child(system.name), folder=folder, progress=progress or (lambda done, text: None))
    start = time.perf_counter()
    outcome = system.run(options, lab)
    result = ZooResult(
        number=system.number, name=system.name, title=system.title, room=system.room, scale=scale,
        verdict=decide(outcome.criteria), claim=system.claim, arms=outcome.arms, criteria=outcome.criteria,
        seconds=round(time.perf_counter() - start + lab.spent_before_s, 1), machine=machine(),
        config={**asdict(options), "seed": seed}, code_hash=hashed, versions=versions(), seeds=options.seeds,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(), data=outcome.data)
    if out is not None:
        save(result, system, Path(out))
        _forget(folder)
    return result


def save(result: ZooResult, system: System, folder: Path) -> tuple[Path, Path]:
    """Writes the result and its figure; returns their paths."""
    stem = result.name if result.scale != "paper" else f"{result.name}-paper"
    numbers, picture = folder / f"{stem}.json", folder / f"{stem}.png"
    result.save(numbers)
    figure = system.draw(result)
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    return numbers, picture


def _units(out: Path, name: str, scale: str, options: Any, seed: int, hashed: str) -> Path:
    key = hashlib.sha256(json.dumps([options, seed, hashed], sort_keys=True).encode()).hexdigest()[:12]
    return out / ".units" / f"{name}-{scale}-{key}"


def _forget(folder: Path | None) -> None:
    """A finished run needs its units no more."""
    if folder is None or not folder.exists():
        return
    for path in folder.glob("*.json"):
        path.unlink()
    for place in (folder, folder.parent):
        if not any(place.iterdir()):
            place.rmdir()
