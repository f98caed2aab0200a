"""Comparisons of answers that stand in one tree: which pairs are shown, what is said of them, and the record of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plaudit.core.errors import BadInput
from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap
from plaudit.core.tokens import of_texts
from plaudit.feedback.records import Preference
from plaudit.feedback.text.splitting import prompt_key
from plaudit.feedback.text.trees import PrefixTree

Judge: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Sequence[float | None]]
"""Prompts, first and second answers to how much better each first one is; None (or NaN) where it cannot tell."""


@dataclass(frozen=True, eq=False)
class TreePair:
    """Two answers of one tree."""

    tree: PrefixTree
    first: int
    second: int

    @property
    def common(self) -> int:
        """The last node that both have."""
        return self.tree.common(self.first, self.second)

    def record(self, **said: Any) -> Preference:
        """What was said of them, with where they stand: the tree, its last common node, its depth and its tokens."""
        common = self.common
        tree = {"id": self.tree.id, "depth": self.tree.nodes[common].depth, "parent": common,
                "shared": self.tree.tokens(common), "options": [self.first, self.second]}
        return Preference(context=self.tree.prompt, tree=tree, options=(
            self.tree.nodes[self.first].completion, self.tree.nodes[self.second].completion), **said)


def tree_pairs(trees: Sequence[PrefixTree], n: int, *, seed: int | Seeds = 0, incomplete: float = 0.0,
               disjoint: bool = False) -> list[TreePair]:
    """Draws n different pairs of answers, from every tree as many as it can be.

    Pairs are leaves; pairs of one text are left out. Which stands first is drawn too. The same seed gives the same
    pairs.

    Args:
        trees: What was collected; trees with a single leaf have no pair, and are passed over.
        n: How many comparisons will be paid for.
        seed: Of the drawing.
        incomplete: The share of pairs in which an answer breaks off at an inner node (which does not begin the other).
        disjoint: Whether an answer is in one pair at most: independent pairs, where the trees have depth one.

    Raises:
        BadInput: when there are fewer pairs than that.

    Example:
        >>> tree = PrefixTree("2 + 2?")
        >>> _ = [tree.add(0, text, ended=True) for text in ("4", "5", "6")]
        >>> pair, = tree_pairs([tree], 1)
        >>> pair.record(label=1.0).tree["shared"]
        0
    """
    if n < 1 or not 0 <= incomplete <= 1:
        raise BadInput("n, incomplete", expected="at least 1, and a share in [0, 1]", received=(n, incomplete))
    rng = (seed if isinstance(seed, Seeds) else Seeds(seed)).numpy()
    broken = round(n * incomplete)
    chosen = _spread([_leaf_pairs(t, rng, disjoint) for t in trees], n - broken, trees)
    chosen += _spread([_broken_pairs(t, rng) for t in trees], broken, trees) if broken else []
    out = [TreePair(trees[t], a, b) if rng.random() < 0.5 else TreePair(trees[t], b, a) for t, a, b in chosen]
    return [out[i] for i in rng.permutation(n)]


def _leaf_pairs(tree: PrefixTree, rng: np.random.Generator, disjoint: bool) -> list[tuple[int, int]]:
    leaves = [int(i) for i in rng.permutation(tree.leaves())]
    pairs = zip(leaves[::2], leaves[1::2], strict=False) if disjoint else combinations(leaves, 2)
    return _shuffled(tree, list(pairs), rng)


def _broken_pairs(tree: PrefixTree, rng: np.random.Generator) -> list[tuple[int, int]]:
    inner = [i for i in range(1, len(tree)) if tree.children(i)]
    pairs = [(a, b) for a in inner for b in range(1, len(tree)) if (b not in inner or a < b)
             and tree.common(a, b) not in (a, b)]
    return _shuffled(tree, pairs, rng)


def _shuffled(tree: PrefixTree, pairs: list[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    texts = [node.completion for node in tree.nodes]
    kept = [(a, b) for a, b in pairs if texts[a] != texts[b]]
    return [kept[i] for i in rng.permutation(len(kept))]


def _spread(each: list[list[tuple[int, int]]], n: int, trees: Sequence[PrefixTree]) -> list[tuple[int, int, int]]:
    """n of the pairs of all trees, round by round."""
    possible = sum(map(len, each))
    if possible < n:
        single = sum(len(t.leaves()) < 2 for t in trees)
        raise BadInput("n", expected=f"at most {possible}, the pairs of {len(trees)} trees ({single} of them have "
                       "fewer than two leaves)", received=n,
                       fix="grow more or larger trees, or sample at a higher temperature")
    rounds = ((t, *pairs[k]) for k in range(max(map(len, each), default=0)) for t, pairs in enumerate(each)
              if k < len(pairs))
    return [pair for _, pair in zip(range(n), rounds, strict=False)]


def judged(pairs: Sequence[TreePair], judge: Judge | Reward, *, rationality: float = math.inf,
           with_margin: bool = False, annotator: str = "judge", seed: int | Seeds = 0) -> list[Preference]:
    """Has pairs compared; one record each, whole answers from the first token on.

    What the judge says is the mean of a logistic distribution with the scale 1 / rationality, from which the difference
    delta is drawn; the label is its sign, which is then Bradley-Terry's. Where the judge cannot tell, the label is
    None: undecided, and no evidence.

    Args:
        pairs: What `tree_pairs` drew.
        judge: How much better each first answer is, or a reward of whole answers.
        rationality: beta; at infinity the judge is believed, and a difference of 0 is a tie.
        with_margin: Whether |delta| becomes the margin.
        annotator: How the records are signed.
        seed: Of the noise.

    Raises:
        BadInput: when the judge does not answer for each pair.

    Source:
        Qiu et al. (2024), Reward Generalization in RLHF, section 3.

    Example:
        >>> tree = PrefixTree("2 + 2?")
        >>> _ = [tree.add(0, text, ended=True) for text in ("4", "5")]
        >>> said = judged(tree_pairs([tree], 1), lambda P, A, B: [(a == "4") - (b == "4") for a, b in zip(A, B)])
        >>> said[0].options[0 if said[0].label else 1], abs(said[0].provenance["delta"])
        ('4', 1.0)
    """
    if not rationality > 0:
        raise BadInput("rationality", expected="a number above 0", received=rationality)
    completion = lambda side: [p.tree.nodes[getattr(p, side)].completion for p in pairs]  # noqa: E731
    prompts = [p.tree.prompt for p in pairs]
    ask = _by_reward(judge) if isinstance(judge, Reward) else judge
    gaps = list(ask(prompts, completion("first"), completion("second"))) if pairs else []
    if len(gaps) != len(pairs):
        raise BadInput("judge", expected=f"an answer for each of {len(pairs)} pairs", received=len(gaps))
    rng = (seed if isinstance(seed, Seeds) else Seeds(seed)).numpy()
    noise = rng.logistic(size=len(pairs)) / rationality
    return [_said(pair, gap, float(more), with_margin, annotator) for pair, gap, more in zip(
        pairs, gaps, noise, strict=True)]


def _said(pair: TreePair, gap: float | None, noise: float, with_margin: bool, annotator: str) -> Preference:
    if gap is None or math.isnan(gap):
        return pair.record(label=None, annotator=annotator)
    delta = float(gap) + noise
    return pair.record(label=0.5 if delta == 0 else float(delta > 0), tie=delta == 0, annotator=annotator,
                       margin=abs(delta) if with_margin else 0.0, provenance={"delta": delta})


def _by_reward(reward: Reward) -> Judge:
    def gaps(prompts: Sequence[Any], first: Sequence[Any], second: Sequence[Any]) -> list[float | None]:
        tokens = of_texts([*prompts, *prompts], [*first, *second])
        value, known = reward.score(tokens).returns()
        n = len(prompts)
        return [float(value[i] - value[n + i]) if bool(known[i] & known[n + i]) else None for i in range(n)]

    return gaps


def tree_interval(records: Sequence[Preference], values: Sequence[float] | NDArray[Any], *, confidence: float = 0.95,
                  seed: int = 0) -> Interval:
    """The mean of a number of each record with an interval that resamples whole trees.

    Labels within a tree hang together, so an interval over single records is too short.

    Raises:
        BadInput: when there is not one number for each record.

    Example:
        >>> records = [Preference(options=("a", "b"), label=1.0, tree={"id": i // 5}) for i in range(20)]
        >>> tree_interval(records, [float(i < 10) for i in range(20)]).n
        4
    """
    if len(values) != len(records):
        raise BadInput("values", expected=f"one number for each of {len(records)} records", received=len(values))
    sums: dict[str, list[float]] = {}
    for record, value in zip(records, values, strict=True):
        total = sums.setdefault(prompt_key(record), [0.0, 0.0])
        total[0] += float(value)
        total[1] += 1.0
    return bootstrap(lambda x: x[..., 0].sum(-1) / x[..., 1].sum(-1), list(sums.values()), seed=seed,
                     confidence=confidence, vectorised=True)
