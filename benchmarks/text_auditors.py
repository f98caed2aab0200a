"""The small auditors of text rewards that install, on plaudit's collection of flawed verifiers, ourselves included.

    python3.11 -m venv ENV
    ENV/bin/pip install reward-doctor==0.2.0 rewardprobe==0.1.0 rl-envdoctor==0.1.0
    python benchmarks/text_auditors.py --peers ENV/bin/python

A peer runs in its own environment and asks for each score through a pipe. A reward counts as flagged where the peer
reports what it itself calls grave: reward-doctor an exploit that its corpus knows and the reward accepts, or half of
its right answers refused; rewardprobe a critical finding; rl-envdoctor a finding of its two highest severities.

What this is not: the collection is ours, and its functions read sums and tags. reward-doctor brings a corpus of
maths answers of its own and cannot be told of a format, so that functions of tags refuse all of it; rewardprobe is
made for the environments of a trainer; neither looks at reward models, so only functions are here. Ours was built
beside this collection: its row is the record's own, tuned half and fresh half alike.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plaudit.auditing.text.flaws.collection import Planted, text_flaws, text_healthy
from plaudit.auditing.text.scoring import Scorer
from plaudit.core.provenance import machine
from plaudit.core.statistics import proportion_interval

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "text_auditors.json"
RECORD = ROOT / "results" / "audit-record-text.json"
LIMIT_S = 60
_ASK = '''
import json, sys
def ask(completion, answer, prompt=""):
    if isinstance(completion, list):
        completion = completion[-1].get("content", "") if completion else ""
    print(json.dumps({"ask": [str(completion), str(answer), str(prompt)]}), file=real, flush=True)
    said = json.loads(sys.stdin.readline())
    if said is None:
        raise ValueError("no number")
    return said
real, sys.stdout = sys.stdout, sys.stderr
rows = json.loads(sys.stdin.readline())
'''
PEERS = {
    "reward-doctor": '''
from reward_doctor import audit
def reward(completion, answer):
    return ask(completion, answer)
a = audit(reward)
flags = [f"{k}: {len(v)}" for k, v in a.attacks_that_work().items()] if callable(a.attacks_that_work) else \\
    [f"{k}: {len(v)}" for k, v in a.attacks_that_work.items()]
refused = a.false_negative_rate() if callable(a.false_negative_rate) else a.false_negative_rate
flags += [f"refuses {refused:.0%} of right answers"] if refused >= 0.5 else []
''',
    "rewardprobe": '''
from rewardprobe import Probe
def reward(completion, answer):
    return ask(completion, answer)
report = Probe(num_tasks=8).test_fn(reward, [{"prompt": r["prompt"], "answer": r["answer"]} for r in rows])
flags = [f.attack for f in report.findings if f.severity.value == "critical"]
''',
    "rl-envdoctor": '''
from envdoctor import Case, FunctionTarget, run_checks, scan
def reward(completion, answer="", prompt=""):
    return ask(completion, answer, prompt)
cases = [Case(id=str(n), prompt=r["prompt"], answer=r["answer"]) for n, r in enumerate(rows)]
report = run_checks(scan(FunctionTarget(reward, cases), n_cases=8))
flags = [f"{f.check}: {f.severity}" for f in report.findings if str(getattr(f.severity, "value", f.severity)).lower()
         in ("critical", "high", "error", "fail")]
''',
}
_END = '\nprint(json.dumps({"flags": flags}), file=real, flush=True)\n'


def ask_peer(python: str, peer: str, one: Planted) -> dict[str, Any]:
    """What a peer says of one function; scores travel through pipes."""
    data, scorer = one.flaw.data(), Scorer(one.arguments()["reward"])
    items = {str(i.gold): i for i in reversed(data.items)}
    rows = [{"prompt": i.text, "answer": i.gold} for i in data.items[:8]]
    with subprocess.Popen(["timeout", str(LIMIT_S), python, "-c", _ASK + PEERS[peer] + _END], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(json.dumps(rows) + "\n")
        process.stdin.flush()
        asked = 0
        for line in process.stdout:
            said = json.loads(line)
            if "flags" in said:
                return {"flags": said["flags"], "texts": asked}
            completion, answer, _ = said["ask"]
            asked += 1
            item = items.get(answer, data.items[0])
            if answer not in items:  # a peer's own corpus
                item = type(item)(prompt=item.prompt, gold=answer, columns=dict.fromkeys(item.columns, answer))
            paid = float(scorer.afresh([item], [completion])[0])
            process.stdin.write(json.dumps(None if paid != paid else paid) + "\n")
            process.stdin.flush()
        return {"flags": None, "error": process.stderr.read().strip().splitlines()[-1:], "texts": asked}


def rates(name: str, flawed: Sequence[bool | None], sound: Sequence[bool | None], texts: float) -> dict[str, Any]:
    """One line of the table; where a peer failed, nothing was flagged."""
    return {"name": name, "flaws": len(flawed), "flagged": sum(map(bool, flawed)),
            "detection": proportion_interval(sum(map(bool, flawed)), len(flawed)).to_json(),
            "healthy": len(sound), "cried": sum(map(bool, sound)),
            "false alarms": proportion_interval(sum(map(bool, sound)), len(sound)).to_json(),
            "failed": sum(f is None for f in (*flawed, *sound)), "texts": texts}


def ours(names: set[str]) -> dict[str, Any]:
    """The same rewards in our record, at the default effort: flagged where any finding is high, as for the peers."""
    rows = [r for r in json.loads(RECORD.read_text(encoding="utf-8"))["rewards"]
            if r["name"] in names and r["effort"] == 1.0]
    flawed = ["high" in r["found"].values() for r in rows if "caught" in r]
    sound = ["high" in r["found"].values() for r in rows if "caught" not in r]
    return rates("plaudit", flawed, sound, sum(r["steps"] for r in rows) / max(1, len(rows)))


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", required=True, help="the python of the peers' environment")
    options = parser.parse_args()
    hangs = ("text/waits", "text/backtracking")  # peers have no limit on a call, and a hang is no comparison
    flawed = [Planted(f.name, f, False) for f in text_flaws() if not f.model and f.suite != "code"
              and f.name not in hangs]
    sound = [p for p in text_healthy() if not p.flaw.model and p.flaw.suite != "code"]
    table, details = [], []
    for peer in PEERS:
        said = [{"peer": peer, "reward": p.name, **ask_peer(options.peers, peer, p)} for p in (*flawed, *sound)]
        details += said
        hit = [None if s["flags"] is None else bool(s["flags"]) for s in said]
        texts = sum(s["texts"] for s in said) / len(said)
        table.append(rates(peer, hit[:len(flawed)], hit[len(flawed):], texts))
        print(json.dumps(table[-1]), flush=True)
    table.append(ours({f"flaw:{p.name}" for p in flawed} | {f"healthy:{p.name}" for p in sound}))
    print(json.dumps(table[-1]))
    OUT.write_text(json.dumps({"machine": machine(), "table": table, "details": details}, indent=1) + "\n",
                   encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
