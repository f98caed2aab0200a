"""Reward models of graded quality for worked solutions: habits, partial checkers, noisy ones, judges, learned ones.

All read the text and the problem, never whether the solution is right, except the noisy checkers, which stand for
models of any skill: the truth with an error that is a function of the text.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from plaudit.auditing.text.suites.sums import Problem
from plaudit.core.seeds import Seeds, counter_uniform
from plaudit.core.stacked import PopulationMLP
from plaudit.core.stacked_adam import PopulationAdam
from plaudit.learn.losses import pair_loss
from plaudit.learn.text.process import AGGREGATIONS, aggregate_steps
from plaudit.zoo.rewardmath_texts import Solution

Array: TypeAlias = NDArray[np.float64]
EQUATION = re.compile(r"(-?\d+) ([+*-]) (\d+) = (-?\d+)")
FINAL = re.compile(r"(?:answer is|So it is) (-?\d+)")
CHECKS = ("terse", "formatted", "length", "equations", "arithmetic", "first", "last", "carried", "copied", "numbers",
          "count")
TOKEN, DIGITS = re.compile(r"[A-Za-z]+|\d|\S"), re.compile(r"\d+")
MOST_STEPS = 12
WORDS = 256
"""Buckets of the hashed words and pairs of words that a small learned model reads."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Read:
    """What can be read of N solutions, as columns."""

    texts: Sequence[str]
    truth: Array
    """1 where the solution is right; for gold and for noisy checkers."""
    answer: Array
    check: Mapping[str, Array]
    """By the names in CHECKS."""
    step_NK: Array
    """Whether each equation is the step that the problem asks for, computed rightly."""
    steps_NK: NDArray[np.bool_]
    key: NDArray[np.int64]
    """A hash of each text: the same text gets the same errors."""


def read(problems: Sequence[Problem], solutions: Sequence[Solution]) -> Read:
    """Reads every solution of its problem."""
    rows = [_row(p, s.text) for p, s in zip(problems, solutions, strict=True)]
    step = np.zeros((len(rows), MOST_STEPS))
    known = np.zeros((len(rows), MOST_STEPS), dtype=bool)
    for n, (_, steps) in enumerate(rows):
        used = steps[:MOST_STEPS]
        step[n, :len(used)], known[n, :len(used)] = used, True
    return Read(texts=[s.text for s in solutions], truth=np.array([float(s.right) for s in solutions]),
                answer=np.array([float(s.answer) for s in solutions]),
                check={name: np.array([row[name] for row, _ in rows]) for name in CHECKS},
                step_NK=step, steps_NK=known,
                key=np.array([zlib.crc32(s.text.encode()) for s in solutions], dtype=np.int64))


def _row(problem: Problem, text: str) -> tuple[dict[str, float], list[float]]:
    found = [(int(a), s, int(b), int(y)) for a, s, b, y in EQUATION.findall(text)]
    said = FINAL.search(text)
    says = int(said[1]) if said else None
    valid = [{"+": a + b, "-": a - b, "*": a * b}[s] == y for a, s, b, y in found]
    before = [problem.start, *(y for *_, y in found)]
    carried = [a == x for (a, *_), x in zip(found, before, strict=False)]
    asked = [(s.sign, s.by) for s in problem.steps]
    steps = [float(v and c and k < len(asked) and (s, b) == asked[k])
             for k, ((_, s, b, _), v, c) in enumerate(zip(found, valid, carried, strict=True))]
    used = {b for _, _, b, _ in found}
    return {"terse": float("Step 1" not in text), "formatted": float("The answer is" in text),
            "length": len(text) / 100, "equations": len(found) / 4, "arithmetic": float(np.mean(valid or [0])),
            "first": float(bool(steps) and steps[0] == 1), "last": float(bool(valid) and valid[-1]),
            "carried": float(np.mean(carried or [0])), "copied": float(bool(found) and found[-1][3] == says),
            "numbers": float(np.mean([s.by in used for s in problem.steps])),
            "count": float(len(found) == len(asked))}, steps


def noise(key: NDArray[np.int64], name: str, seeds: Seeds) -> Array:
    """A standard normal error of each text, of this model and seed alone."""
    seed = zlib.crc32(f"{name} {seeds.integer()}".encode())
    u = np.clip(counter_uniform(np.full(len(key), seed, dtype=np.int64), key, 2), 1e-12, 1)
    return np.sqrt(-2 * np.log(u[:, 0])) * np.cos(2 * np.pi * u[:, 1])


def scripted(seen: Read, seeds: Seeds) -> dict[str, Array]:
    """The scores of all models that are not learned, by name."""
    c, truth = seen.check, seen.truth
    error = lambda name: noise(seen.key, name, seeds)  # noqa: E731
    out = {"random": error("random"), "terse style": c["terse"], "long style": -c["terse"], "short": -c["length"],
           "wordy": c["length"], "answer format": c["formatted"], "terse and short": c["terse"] - c["length"],
           "first step": c["first"], "last step": c["last"], "copied": c["copied"],
           "arithmetic": c["arithmetic"], "numbers": c["numbers"],
           "arithmetic and numbers": c["arithmetic"] + c["numbers"] + 0.2 * error("arithmetic and numbers"),
           "all but order": sum((c[k] for k in ("arithmetic", "carried", "copied", "numbers", "count")),
                                start=0.1 * error("all but order"))}
    for sigma in (0.2, 0.4, 0.7, 1.0, 1.5, 2.5):
        out[f"checker, noise {sigma:g}"] = truth + sigma * error(f"checker {sigma}")
    for rate in (0.05, 0.15, 0.3):
        wrong = np.abs(noise(seen.key, f"verdict {rate}", seeds)) > {0.05: 1.96, 0.15: 1.44, 0.3: 1.036}[rate]
        out[f"verdict, {rate:.0%} wrong"] = np.where(wrong, 1 - truth, truth)
    for bias in (0.5, 1.0, 2.0):
        out[f"checker and terse style, {bias:g}"] = truth + bias * c["terse"] + 0.4 * error(f"terse {bias}")
        out[f"checker and short, {bias:g}"] = truth - bias * c["length"] + 0.4 * error(f"short {bias}")
    out["judge, 1 to 10"] = np.clip(np.round(5.5 + 3 * (truth - 0.5) + 1.5 * error("judge")), 1, 10)
    for sigma in (1.0, 3.0):
        for how in ("geometric", "product", "last"):
            out[f"steps, noise {sigma:g}, {how}"] = process(seen, seeds, sigma, how)
    return out


def process(seen: Read, seeds: Seeds, sigma: float, how: str) -> Array:
    """A process model whose steps are judged with a logit of +-2 and noise, put together in one of the ways."""
    shift = np.stack([noise(seen.key + 7919 * (k + 1), f"process {sigma}", seeds) for k in range(MOST_STEPS)], 1)
    p = 1 / (1 + np.exp(-(4 * (seen.step_NK - 0.5) + sigma * shift)))
    return aggregate_steps(torch.from_numpy(p), torch.from_numpy(seen.steps_NK), how).numpy()


def aggregations(seen: Read, seeds: Seeds, *, sigma: float = 1.0) -> dict[str, Array]:
    """The same process model under every way to put its steps together."""
    return {how: process(seen, seeds, sigma, how) for how in AGGREGATIONS}


# --- learned ------------------------------------------------------------------------------------------------


def checks(seen: Read, *, noisy: Seeds | None = None) -> Float[Tensor, "N D"]:
    """The columns that a small model may learn from; what it reads of the mathematics is read with errors."""
    columns = [seen.check[k] - (0.5 if k == "length" else 0.0) for k in CHECKS]
    if noisy is not None:
        columns = [x + (0.3 * noise(seen.key, f"reading {k}", noisy) if k not in CHECKS[:4] else 0.0)
                   for k, x in zip(CHECKS, columns, strict=True)]
    return torch.from_numpy(np.stack(columns, 1)).float()


def words(texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """Hashed words and neighbours of words, numbers as one word: what a model reads that cannot calculate."""
    out = np.zeros((len(texts), WORDS), dtype=np.float32)
    for n, text in enumerate(texts):
        plain = TOKEN.findall(DIGITS.sub("0", text))
        places = [_place(token) for token in (*plain, *zip(plain, plain[1:], strict=False))]
        out[n] = np.bincount(places, minlength=WORDS) / 4
    return torch.from_numpy(out)


@lru_cache(maxsize=4096)
def _place(token: str | tuple[str, str]) -> int:
    return zlib.crc32(" ".join((token,) if isinstance(token, str) else token).encode()) % WORDS


def learn(better: Float[Tensor, "P n D"], worse: Float[Tensor, "P n D"], seeds: Seeds, *, hidden: int, steps: int,
          lr: float) -> PopulationMLP:
    """P small networks on Bradley-Terry, one for each set of pairs, where these live.

    The same start, steps and step size for all.
    """
    P, n, D = better.shape
    net = PopulationMLP((D, hidden, 1), activation="tanh", generators=[seeds.torch() for _ in range(P)],
                        device=better.device)
    adam = PopulationAdam([net.flat], eps=1e-8)
    both = torch.cat([better, worse], 1)
    for _ in range(steps):
        value = net(both)[..., 0]
        gap = value[:, :n] - value[:, n:]
        (pair_loss(gap, torch.ones_like(gap)).mean(1) + 1e-3 * net.flat.square().sum(1)).sum().backward()
        adam.step(lr=torch.full((P,), lr, device=both.device), max_norm=torch.ones(P, device=both.device))
    return net
