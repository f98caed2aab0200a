"""Audits a file of pairs itself: its faults, and what a reward model would learn from its surface alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plaudit.auditing.asking import Event, Listener
from plaudit.auditing.finding import Finding, Severity, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item, TextData
from plaudit.auditing.text.measuring import clustered_mean, percent
from plaudit.auditing.text.reading import items_of
from plaudit.auditing.text.scoring import Numbers, Scorer
from plaudit.auditing.text.subject import TextSubject
from plaudit.auditing.text.witness import witness
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens
from plaudit.feedback.records import Preference
from plaudit.feedback.text.checks import check_pairs
from plaudit.feedback.text.formats import read_pairs

FEATURES = ("length", "lines", "markup", "digits", "questions and exclamations", "words said again", "capitals",
            "overlap with the prompt")
FOLDS, RIDGE, STEPS = 5, 1.0, 30
MEDIUM, HIGH = 0.65, 0.8
"""Accuracy of the surface alone, by its lower bound."""
FEWEST = 20


def surface(prompt: str, text: str) -> list[float]:
    """What can be seen of a text without reading it.

    Example:
        >>> [round(x, 2) for x in surface("Why?", "Because!")[:5]]
        [2.2, 0.0, 0.0, 0.0, 0.12]
    """
    n, words = max(1, len(text)), text.lower().split()
    asked = set(prompt.lower().split())
    return [float(np.log1p(len(text))), float(np.log1p(text.count("\n"))),
            (text.count("**") + text.count("#") + text.count("\n- ") + text.count("`")) / n * 20,
            sum(c.isdigit() for c in text) / n, (text.count("!") + text.count("?")) / n,
            1 - len(set(words)) / max(1, len(words)), sum(c.isupper() for c in text) / n,
            len(asked & set(words)) / max(1, len(asked))]


class Surface(Reward):
    """The reward that a file's surface suggests: a logistic regression on differences of `surface`."""

    def __init__(self, weights: Numbers, scale: Numbers) -> None:
        self.weights, self.scale, self.name = weights, scale, "the surface of the pairs"
        self.needs = Needs(time="episode")

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="texts (of_texts)", received=type(episodes).__name__)
        rows = zip(episodes.columns["prompt_text"], episodes.columns["completion_text"], strict=True)
        x = np.array([surface(p, t) for p, t in rows]) / self.scale
        out = torch.zeros(episodes.mask.shape)
        out[torch.arange(episodes.B), episodes.last] = torch.tensor(x @ self.weights).float()
        return Score.of(out, mask=episodes.mask)

    @staticmethod
    def fit(difference: Numbers) -> Surface:
        """Fits by Newton's method: P(first better) = sigmoid(weights . difference)."""
        scale = np.sqrt((difference**2).mean(0))
        scale[scale < 1e-9] = 1.0
        x = difference / scale
        w = np.zeros(x.shape[1])
        for _ in range(STEPS):
            p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
            gradient = x.T @ (1 - p) - RIDGE * w
            hessian = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(w))
            w = w + np.linalg.solve(hessian, gradient)
        return Surface(w, scale)


def surface_of(path: str) -> Surface:
    """The surface reward of a file, as its audit fitted it."""
    items = items_of(read_pairs(path))
    return Surface.fit(_differences(_rows(items)))


@dataclass(frozen=True)
class Faults:
    """Rows that say nothing, or contradict each other."""

    records: Sequence[Preference]
    name: str = "pairs"
    question: str = "Are there rows that say nothing, or contradict each other?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped:
        faults = check_pairs(self.records)
        kinds = Counter(f.kind for f in faults)
        rows = _rows(context.data.items)
        seen = {(i.whole, good, bad) for i, good, bad in rows}
        against = sorted({n for n, (i, good, bad) in enumerate(rows) if (i.whole, bad, good) in seen})
        twice = len(rows) - len(seen)
        evidence = {"rows": len(self.records), **{f"rows: {k}": n for k, n in kinds.items()},
                    "rows that say the opposite of another": len(against), "rows that stand twice": twice}
        bad = len({f.row for f in faults if f.row is not None}) + len(against)
        share = bad / max(1, len(self.records))
        if not bad and not twice:
            return []
        severity: Severity = "high" if share >= 0.2 else "medium" if bad else "low"
        first = str(faults[0]) if faults else f"{len(against)} rows contradict another" if against else \
            f"{twice} rows stand twice"
        shown = [rows[against[0]]] if against else rows[:1]
        return [Finding(
            check=self.name, severity=severity, kind="faulty rows",
            title=f"{bad} of {len(self.records)} rows are faulty ({first})", evidence=evidence,
            witness=witness("a faulty row", [("one side", i, g, float("nan")) for i, g, _ in shown]) if shown else None,
            advice="Mend or drop these rows before training (plaudit.feedback.text.check_pairs lists them).",
            cost=min(1.0, share))]


@dataclass(frozen=True)
class Shortcuts:
    """How well the choices are foretold without reading the texts, on held-out prompts."""

    name: str = "shortcuts"
    question: str = "Does the surface of the texts foretell which is preferred?"
    modes: tuple[Mode, ...] = ("model",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped:
        rows = _rows(context.data.items)
        if len(rows) < FEWEST:
            return Skipped(f"needs {FEWEST} pairs, there are {len(rows)}")
        x = _differences(rows)
        clusters = [i.whole for i, *_ in rows]
        alone = {name: _foretold(x[:, [k]], clusters, context.seed) for k, name in enumerate(FEATURES)}
        together = _foretold(x, clusters, context.seed)
        context.memo["accuracy"] = together
        best = max(alone, key=lambda n: alone[n].mean)
        evidence = {"all together": together, **alone}
        worst = max((together, alone[best]), key=lambda a: a.low)
        if worst.low < MEDIUM:
            return []
        severity: Severity = "high" if worst.low >= HIGH else "medium"
        value = context.scorer([i for i, *_ in rows], [g for _, g, _ in rows])
        n = int(np.argmax(value))
        item, good, bad = rows[n]
        return [Finding(
            check=self.name, severity=severity, kind="surface foretells choices",
            title=f"Without reading the texts {percent(together.mean)} [{percent(together.low)}, "
                  f"{percent(together.high)}] of choices are foretold; {best} alone foretells "
                  f"{percent(alone[best].mean)}: a model trained on this may learn that and nothing else",
            evidence=evidence,
            witness=witness("preferred for its surface", [
                ("preferred", item, good, float(value[n])),
                ("not preferred", item, bad, float(context.scorer([item], [bad])[0]))]),
            advice=f"Match the two sides in {best}, add pairs in which it is the other way round, or weigh pairs "
                   "so that it foretells nothing.", cost=float(min(1.0, max(0.0, 2 * worst.mean - 1))))]


def audit_pairs(source: str | Path | Sequence[Preference], *, seed: int = 0, only: Sequence[str] | None = None,
                listen: Listener | None = None) -> Any:
    """Audits pairs: their faults, and what their surface gives away.

    Args:
        source: a file that `read_pairs` reads, or records.
        seed: of folds and intervals.
        only: `pairs`, `shortcuts`, or both.
        listen: called with every `Event`.

    Raises:
        BadInput: when there is nothing to read, or no pair among it.
    """
    from plaudit.auditing.text.audit import Runner

    began, tell = time.perf_counter(), listen or (lambda event: None)
    records = read_pairs(source) if isinstance(source, str | Path) else list(source)
    items = items_of(records)
    rows = _rows(items)
    if not rows:
        raise BadInput("target", expected="pairs of a better and a worse completion", received=str(source)[:80])
    name = str(source) if isinstance(source, str | Path) else "records"
    reward = Surface.fit(_differences(rows))
    data = TextData(name=Path(name).name, items=tuple(items), intent="pairs")
    subject = TextSubject(reward, f"{len(records):,} preferences", name, "model", source={"pairs": name},
                          task_spec={"data": name})
    checks = [c for c in (Faults(records), Shortcuts()) if only is None or c.name in only]
    if not checks:
        raise BadInput("only", expected="pairs or shortcuts", received=", ".join(only or ()))
    context = TextContext(data=data, scorer=Scorer(reward), mode="model", seed=seed)
    context.memo["of pairs"] = True
    tell(Event(kind="recognised", text=f"{len(records):,} preferences in {name}", checks=[c.name for c in checks]))
    run = Runner(context, subject, tell, began, checks, {"only": None if only is None else list(only)})
    interrupted = run.all()
    tell(Event(kind="judging"))
    return run.report(interrupted=interrupted)


def _rows(items: Sequence[Item]) -> list[tuple[Item, str, str]]:
    return [(i, g, b) for i in items for g in i.good for b in i.bad]


def _differences(rows: Sequence[tuple[Item, str, str]]) -> Numbers:
    return np.array([np.subtract(surface(i.text, g), surface(i.text, b)) for i, g, b in rows])


def _foretold(x: Numbers, clusters: Sequence[str], seed: int) -> Interval:
    """Accuracy on prompts that were left out, with an interval over prompts."""
    ids = {c: n for n, c in enumerate(dict.fromkeys(clusters))}
    fold = np.random.default_rng(seed).permutation(len(ids))[[ids[c] for c in clusters]] % FOLDS
    won = np.zeros(len(x))
    for k in range(FOLDS):
        held = fold == k
        if held.any() and (~held).any():
            model = Surface.fit(x[~held])
            margin = (x[held] / model.scale) @ model.weights
            won[held] = np.where(np.abs(margin) < 1e-12, 0.5, margin > 0)
    return clustered_mean(won, clusters, seed=seed)


