"""A hundred kills: training, audits, a zoo run and the record are struck at random, and go on: `results/kills.json`.

    python benchmarks/kills.py [--kills 110] [--only ppo,sac] [--out FILE]

Each job is first run to its end in peace. Then it is run again in processes of their own, and each of these is killed
(SIGKILL) after a time that was drawn before it began, until one of them reaches the end; what it leaves behind must be
the same bytes. Jobs are tiny and write a checkpoint at every update, so that many kills strike while a file is
written. Learners must leave the same checkpoint, policy and log; an audit the same report and witnesses, a zoo run and
the record the same results, all without the seconds that they took. Each kind of job is written to the results when it
is through; `--only` makes some anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from plaudit.core.checkpoint import write_text
from plaudit.optimize import DQNConfig, PPOConfig, SACConfig, TD3Config, read_log, train

RESULTS = Path(__file__).parent / "results" / "kills.json"
SHARES = {"ppo": 24, "sac": 24, "dqn": 20, "td3": 12, "zoo": 10, "record": 10, "audit": 10}
"""How the kills are divided."""
TINY: dict[str, Any] = {"num_envs": 4, "hidden": (16,), "collect": 4, "rounds": 2, "warmup": 64, "batch": 32,
                        "update_ratio": 0.25}
LEARNERS: dict[str, tuple[str, int, Any]] = {
    "ppo": ("CartPole-v1", 30, PPOConfig(num_envs=4, rollout=16, hidden=(16,), normalise_obs=True, scale_reward=True)),
    "sac": ("Pendulum-v1", 30, SACConfig(**TINY)),
    "td3": ("Pendulum-v1", 30, TD3Config(**TINY)),
    "dqn": ("CartPole-v1", 40, DQNConfig(**TINY, n_step=2, capacity=500)),
}
AUDITED = ("flaw:boat_race", "flaw:dirt", "healthy:twin/boat_race", "healthy:twin/dirt")
EFFORT = 0.02
AUDIT, AUDIT_EFFORT = "flaw:paid_waiting/MountainCar-v0", 0.2


@dataclass
class Tally:
    """What happened to the runs of one kind of job."""

    kills: int = 0
    runs: int = 0
    identical: int = 0
    moments: list[float] = field(default_factory=list)
    """How much of each struck run was done, in [0, 1], as far as its files say."""


# --- the jobs ----------------------------------------------------------------------------------------------


def learn(name: str, folder: Path) -> None:
    """Trains to the end, from the checkpoint if there is one."""
    env, updates, config = LEARNERS[name]
    size = config.num_envs * (config.rollout if name == "ppo" else config.collect * config.rounds)
    train(name, env, population=2, steps=updates * size, config=config, out=folder, resume=True, checkpoint_every=1,
          progress=False)


def zoo(folder: Path) -> None:
    """The smallest run of a system."""
    from plaudit.zoo.lab import run_system
    from plaudit.zoo.starc import SYSTEM

    run_system(SYSTEM, scale="smoke", out=folder)


def record(folder: Path) -> None:
    """The audits of four rewards of the record, at a small effort."""
    from plaudit.auditing.record.running import jobs_of, run_record

    run_record(jobs_of(efforts=(EFFORT,), names=AUDITED), parts=folder, keep=True)


def audited(folder: Path) -> None:
    """An audit from its first search to its report."""
    from plaudit import audit
    from plaudit.auditing.flaws.spelling import spelt_out

    target, env, intent = spelt_out(AUDIT)
    report = audit(target, env=env, intent=intent, effort=AUDIT_EFFORT, keep=folder / "kept", resume=True)
    report.save(folder / "report")


def work(name: str) -> Callable[[Path], None]:
    """What one process does in a folder."""
    if name in LEARNERS:
        return lambda folder: learn(name, folder)
    return {"zoo": zoo, "record": record, "audit": audited}[name]


def left_behind(name: str, folder: Path) -> dict[str, str]:
    """Hashes of all that must not differ."""
    if name in LEARNERS:
        files = ("checkpoint.safetensors", "policy.safetensors", "log.jsonl")
        found: dict[str, bytes] = {file: (folder / file).read_bytes() for file in files}
    elif name == "audit":
        found = {file.name: _bytes(_without_seconds(json.loads(file.read_text().replace(str(folder), "FOLDER"))))
                 for file in sorted((folder / "report").glob("*.json"))}
    elif name == "zoo":
        result = json.loads((folder / "starc.json").read_text())
        found = {"starc.json": _bytes({k: v for k, v in result.items() if k not in ("seconds", "date")})}
    else:
        from plaudit.auditing.record.running import collect

        found = {row["name"]: _bytes({k: v for k, v in row.items() if k != "measured"}) for row in collect(folder)}
        if set(found) != set(AUDITED):
            raise RuntimeError(f"the record lacks {set(AUDITED) - set(found)}")
    return {file: hashlib.sha256(content).hexdigest() for file, content in found.items()}


def share_done(name: str, folder: Path) -> float:
    """How far a run was when it was struck."""
    if name in LEARNERS:
        rows = read_log(folder) if (folder / "log.jsonl").exists() else []
        return len(rows) / LEARNERS[name][1]
    return min(1.0, len(list(folder.rglob("*.json"))) / {"zoo": 15, "record": len(AUDITED), "audit": 6}[name])  # kept


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [_without_seconds(v) for v in value] if isinstance(value, list) else value


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


# --- killing ------------------------------------------------------------------------------------------------


def life(name: str, folder: Path, seconds: float | None) -> bool:
    """Runs a job in a process of its own and kills it after `seconds`; True if it reached the end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work(name)(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
        if done:
            break
        if end is not None and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{name} failed after a kill: see its error above; its files are in {folder}")
    return True


def torment(name: str, kills: int, rng: random.Random, root: Path) -> Tally:
    """Kills runs of one kind so many times and compares what each leaves behind."""
    peace = root / f"{name}-peace"
    work(name)(peace)  # once in this process, so that all is imported and compiled
    shutil.rmtree(peace)
    start = time.monotonic()
    life(name, peace, None)
    whole, expected, tally = time.monotonic() - start, left_behind(name, peace), Tally()
    while tally.kills < kills:
        folder = root / f"{name}-{tally.runs}"
        finished = False
        while not finished:
            finished = life(name, folder, rng.uniform(0, 0.7 * whole) if tally.kills < kills else None)
            if not finished:
                tally.kills += 1
                tally.moments.append(round(share_done(name, folder), 3))
        tally.runs += 1
        same = left_behind(name, folder) == expected
        tally.identical += same
        print(f"{name}: {tally.kills} of {kills} kills, run {tally.runs} "
              + ("is the same" if same else f"DIFFERS, see {folder}"), flush=True)
        if same:
            shutil.rmtree(folder)
    return tally


def main() -> int:
    """Kills, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=110)
    parser.add_argument("--only", help="kinds of jobs, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only.split(",") if options.only else list(SHARES)
    total, root = sum(SHARES[n] for n in names), Path(tempfile.mkdtemp(prefix="kills-"))
    for name in names:
        tally = torment(name, max(1, round(options.kills * SHARES[name] / total)),
                        random.Random(f"{options.seed} {name}"), root)
        rows = write(options.out, {"name": f"kills_{name}", **vars(tally), "passed": tally.identical == tally.runs})
    print(json.dumps(rows[-1]))
    if not rows[-1]["passed"]:
        return 1  # what differs stays to be looked at
    shutil.rmtree(root)
    return 0


def write(file: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Adds a row to a file of results, in the place of an earlier one of its name, and counts them all."""
    old = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    rows = [r for r in old if r["name"] not in ("kills", row["name"])] + [row]
    counts = {key: sum(r[key] for r in rows) for key in ("kills", "runs", "identical")}
    rows.append({"name": "kills", **counts, "passed": all(r["passed"] for r in rows),
                 "machine": f"{os.cpu_count()} cores, {platform.machine()}"})
    write_text(file, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    sys.exit(main())
