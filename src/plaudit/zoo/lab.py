"""Runs a system: unit by unit so that it can be killed and goes on, then the verdict, the file and the figure."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from plaudit.core.checkpoint import replacing
from plaudit.core.cluster import Cluster
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput
from plaudit.core.jobs import Kept, Progress, name_of, run_jobs
from plaudit.core.provenance import code_hash, machine, versions
from plaudit.core.seeds import Seeds
from plaudit.core.targets import load_target
from plaudit.zoo.contract import Scale, System, ZooResult, decide


@dataclass(kw_only=True)
class Lab:
    """What a running experiment is given: seeds, a memory for finished units, workers, and someone to tell how far.

    Example:
        >>> lab = Lab(seeds=Seeds(0))
        >>> lab.plan(2)
        >>> [lab.unit(f"square {i}", lambda i=i: i * i) for i in (3, 4)]
        [9, 16]
    """

    seeds: Seeds
    config: Any = None
    """The options of the experiment, which `units` hands on."""
    kept: Kept = field(default_factory=Kept)
    """Where finished units are kept; by default nowhere."""
    progress: Progress = field(default=lambda done, text: None)
    ray: Cluster | None = None
    """Where `units` runs them; None is this process."""
    device: str = "cpu"
    """Where learners live; the functions of `units` that take a `device` are given it."""
    _total: int = 0
    _done: int = 0

    def plan(self, units: int) -> None:
        """Says how many units there will be."""
        self._total += units

    def unit(self, name: str, work: Callable[[], Any]) -> Any:
        """The JSON value that `work` returns, made in this process; read where an earlier run already finished it."""
        value = self.kept.get_or({"unit": name}, work)
        self._tell(1, name)
        return value

    def units(self, function: Callable[..., Any], jobs: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        """The JSON values of `function(config, seeds, **job)` for jobs by name, in their order; on Ray if asked for.

        The function stands at the top of its module, and all that differs from unit to unit comes in the job, which
        is JSON: `seeds` are those of the whole experiment, so take a child that the job names. Each unit runs
        on one thread of torch and has the same bits wherever it runs. A function that takes a `device` is given that
        of the lab, where it is not the CPU.

        Example:
            >>> from plaudit.zoo.starc import StarcConfig, invariance
            >>> lab = Lab(seeds=Seeds(0), config=StarcConfig(states=(4,), invariance_worlds=1))
            >>> found, = lab.units(invariance, {"invariance": {}})
            >>> found["VAL"] < 1e-9
            True
        """
        config = None if self.config is None else asdict(self.config)
        kind = None if self.config is None else name_of(type(self.config))
        shared = {"function": name_of(function), "kind": kind, "config": config, "root": self.seeds.root,
                  "path": list(self.seeds.path)}
        where = {"device": self.device} if self.device != "cpu" and "device" in signature(function).parameters else {}
        done = 0

        def tell(share: float, name: str) -> None:
            nonlocal done
            before, done = done, round(share * len(jobs))
            self._tell(done - before, name)

        values = run_jobs(run_unit, [{**shared, "job": {**job, **where}} for job in jobs.values()], names=list(jobs),
                          ray=self.ray, folder=self.kept, progress=tell)
        if done < len(jobs):
            self._tell(len(jobs) - done, "found")
        return values

    def _tell(self, more: int, name: str) -> None:
        self._done += more
        self.progress(self._done / max(self._total, self._done), name)


def run_unit(*, function: str, kind: str | None, config: Mapping[str, Any] | None, root: int, path: list[str | int],
             job: Mapping[str, Any]) -> Any:
    """One unit, from JSON: what a worker runs."""
    options = None if kind is None or config is None else _config(load_target(kind).thing, config)
    return load_target(function).thing(options, Seeds(root, tuple(path)), **job)


def _config(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from what JSON made of it: lists are tuples again, dictionaries the dataclasses that they were."""
    hints = get_type_hints(kind)

    def made(hint: Any, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(hint, type) and is_dataclass(hint):
            return _config(hint, value)
        return tuple(made(None, v) for v in value) if isinstance(value, list) else value

    return kind(**{f.name: made(hints.get(f.name), values[f.name]) for f in fields(kind) if f.init})


def run_system(system: System, *, scale: Scale = "small", seeds: int | None = None, config: Any = None,
               out: str | Path | None = None, seed: int = 0, progress: Progress | None = None,
               ray: str | bool | None = None, device: str = "cpu") -> ZooResult:
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
        ray: where units run that their module hands to `Lab.units`, as for `plaudit.core.jobs.run_jobs`.
        device: where learners live, for a system that has any; the result says so.

    Raises:
        BadInput: for an unknown scale, fewer than 1 seed, no Ray at its address, a device that torch or the system
            cannot use, or a result file that is not ours.
        MissingExtra: when Ray is asked for and not installed.
    """
    if scale not in system.scales:
        raise BadInput("scale", expected=f"one of {list(system.scales)}", received=scale)
    options = system.scales[scale] if config is None else config
    if seeds is not None:
        if seeds < 1:
            raise BadInput("seeds", expected="at least 1", received=seeds)
        options = replace(options, seeds=seeds)
    device = check_device(device)
    if device != "cpu" and not system.any_device:
        raise BadInput("device", expected=f"cpu: nothing in {system.name} learns on another device", received=device)
    hashed = code_hash(system.run.__module__)
    folder = None if out is None else _units(Path(out), system.name, scale, asdict(options), seed, hashed)
    kept, start = Kept(folder=folder), time.perf_counter()
    with ExitStack() as stack:
        workers = None if ray is None or ray is False else stack.enter_context(Cluster(ray))
        outcome = system.run(options, Lab(seeds=Seeds(seed).child(system.name), config=options, kept=kept, ray=workers,
                                          device=device, progress=progress or (lambda done, text: None)))
    result = ZooResult(
        number=system.number, name=system.name, title=system.title, room=system.room, scale=scale,
        verdict=decide(outcome.criteria), claim=system.claim, arms=outcome.arms, criteria=outcome.criteria,
        seconds=round(time.perf_counter() - start + kept.seconds, 1), machine=machine(),
        device=device, config={**asdict(options), "seed": seed}, code_hash=hashed, versions=versions(),
        seeds=options.seeds, date=datetime.datetime.now(datetime.UTC).date().isoformat(), data=outcome.data)
    if out is not None:
        save(result, system, Path(out))
        kept.forget()
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
