"""Best-of-n: the simplest optimiser there is, and the curve that says how much optimising a proxy bears.

A pool of N completions of each prompt is drawn and scored once. What the best of n would earn is then a weighted
mean over the pool (every subset of n counts once), so one pool gives the whole curve without a further sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput, UnknownReward
from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import bootstrap, mean_interval
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.columns import Columns, checked, told
from plaudit.optimize.align.policy import Policy

Ties = Literal["random", "first", "worst", "best"]


def best_of_kl(n: int) -> float:
    """log n - (n - 1) / n: the most that best-of-n can move a policy from the one it samples from, in nats.

    An upper bound, for any prompt and reward (Beirami et al. 2024, theorem 1): it is met where every completion has
    its own reward and next to no probability, and far too high where few completions share it, for the KL can never
    exceed the negative log of the probability of the best ones. `exact_best_of` has the truth where all is known.

    Raises:
        BadInput: when n is below 1.

    Example:
        >>> [round(best_of_kl(n), 3) for n in (1, 2, 16)]
        [0.0, 0.193, 1.835]
    """
    if n < 1:
        raise BadInput("n", expected="an integer >= 1", received=n)
    return math.log(n) - (n - 1) / n


def exact_best_of(log_p: Float[Tensor, "Y"], score: Float[Tensor, "Y"], n: int) -> Float[Tensor, "Y"]:
    """The probabilities of best-of-n over completions that can be listed; equal scores share as the policy has them.

    Example:
        >>> exact_best_of(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 1.0]), 2)
        tensor([0.2500, 0.7500])
    """
    p = log_p.exp()
    same, below = score.unsqueeze(0) == score.unsqueeze(1), score.unsqueeze(0) < score.unsqueeze(1)
    mass, under = (same * p).sum(-1), (below * p).sum(-1)
    return ((under + mass) ** n - under**n) * p / mass


@dataclass(frozen=True, eq=False, kw_only=True)
class BestOf:
    """The best completion of each prompt."""

    tokens: Tokens
    """One row a prompt, where one was known."""
    reward: Float[Tensor, "B"]
    n: int
    kl: float
    """`best_of_kl(n)`: an upper bound."""
    unknown: int
    """Completions that could not be judged, and so were not chosen."""
    prompt: Sequence[int]
    """Of which prompt each row is."""


def best_of_n(policy: Policy, reward: Reward, prompts: Sequence[Any], n: int, *,
              columns: Columns | None = None, seed: int | Seeds = 0, ties: Literal["first", "random"] = "first",
              on_unknown: Literal["mask", "stop"] = "mask") -> BestOf:
    """Samples n completions of each prompt and keeps the best by a reward.

    Args:
        policy: What samples.
        reward: What judges.
        prompts: What the policy's `encode` reads.
        n: Completions of each.
        columns: What the reward reads of each prompt, such as its `answer`: one entry for each prompt under each name.
        seed: The same seed gives the same numbers.
        ties: Of equal ones, the first that was drawn, or one at random. Both have the same distribution, as samples
            are exchangeable; `random` matters where rows come in an order that means something.
        on_unknown: `mask` chooses among those that are known (a prompt without one is left out), `stop` raises.

    Raises:
        BadInput: when n is below 1, or a column is missing or has another length.
        UnknownReward: when a reward is unknown and `on_unknown` is `stop`, or nothing is known.

    Example:
        >>> from plaudit.optimize.align.tables import TablePolicy, TableReward
        >>> best = best_of_n(TablePolicy(torch.zeros(1, 4)), TableReward(torch.arange(4.0)[None], vocab=4), [0], 16)
        >>> float(best.reward), round(best.kl, 2)
        (3.0, 1.84)
    """
    kl = best_of_kl(n)
    if ties not in ("first", "random"):
        raise BadInput("ties", expected="first or random", received=ties)
    columns = checked(columns, len(prompts))
    root = seed if isinstance(seed, Seeds) else Seeds(seed)
    tokens = told(policy.sample(prompts, n=n, seed=root.child("sample")), columns, range(len(prompts)), [reward])
    score = reward.score(tokens)
    value, known = score.returns()
    if on_unknown == "stop":
        score.require()
    if not bool(known.any()):
        raise UnknownReward(f"{reward.name} knows none of the {tokens.B} completions: {score.counts()}")
    rows, prompt = winners(value, known, n, ties=ties, seed=root.child("ties"))
    return BestOf(tokens=tokens[rows], reward=value[rows], n=n, kl=kl, unknown=int((~known).sum()),
                  prompt=prompt.tolist())


def winners(reward_B: Float[Tensor, "B"], known: Bool[Tensor, "B"], n: int, *,
            ties: Literal["first", "random"] = "first",
            seed: int | Seeds = 0) -> tuple[Int[Tensor, "W"], Int[Tensor, "W"]]:
    """The row of the best of each n rows in turn, and of which n it is; an unknown reward never wins.

    Example:
        >>> winners(torch.tensor([1.0, 2.0, torch.nan, 0.0]), torch.tensor([True, True, False, True]), 2)
        (tensor([1, 3]), tensor([0, 1]))
    """
    value_PN, known_PN = reward_B.view(-1, n).double(), known.view(-1, n)
    ranked = torch.where(known_PN, value_PN, -torch.inf)
    top = (ranked == ranked.amax(1, keepdim=True)) & known_PN
    if ties == "first":
        at = top.int().argmax(1)
    else:
        root = seed if isinstance(seed, Seeds) else Seeds(seed)
        at = (top * torch.rand(top.shape, generator=root.torch(), dtype=torch.float64).add(
            1e-9).to(top.device)).argmax(1)
    here = torch.nonzero(known_PN.any(1)).flatten()
    return here * n + at[here], here


def subset_weights(proxy: Float[Tensor, "N"], n: int, *, ties: Ties = "random",
                   gold: Float[Tensor, "N"] | None = None) -> Float[Tensor, "N"]:
    """How often each of N completions is the best of n of them: the share of all subsets that it wins.

    Completion i at place k of N (from below) wins C(k - 1, n - 1) of the C(N, n) subsets. Equal ones share alike
    (`random`), or the earliest wins (`first`), or the one with the lowest or highest gold (`worst`, `best`): the
    bounds of what a rule for ties can do.

    Raises:
        BadInput: when n is not in 1..N, or gold is needed.

    Example:
        >>> subset_weights(torch.tensor([0.0, 2.0, 1.0]), 2)
        tensor([0.0000, 0.6667, 0.3333], dtype=torch.float64)
    """
    N = len(proxy)
    if ties not in get_args(Ties):
        raise BadInput("ties", expected=f"one of {get_args(Ties)}", received=ties)
    if not 1 <= n <= N:
        raise BadInput("n", expected=f"an integer in [1, {N}], the size of the pool", received=n)
    if ties in ("worst", "best") and gold is None:
        raise BadInput("gold", expected=f"a number for each completion, as ties={ties!r} asks", received=None)
    score = proxy.detach().cpu().double().numpy()
    second = np.zeros(N) if ties == "random" else -np.arange(N) if ties == "first" else \
        np.asarray(gold, dtype=np.float64) * (1.0 if ties == "best" else -1.0)
    order = np.lexsort((second, score))
    weight = np.zeros(N)
    weight[order] = _shares(N, n)
    if ties == "random":
        _, same = np.unique(score, return_inverse=True)
        weight = (np.bincount(same, weight) / np.bincount(same))[same]
    return torch.from_numpy(weight)


@lru_cache(maxsize=256)
def _shares(N: int, n: int) -> tuple[float, ...]:
    """C(place, n - 1) / C(N, n) for each place, from the top down: n / N, and then ratios of neighbours."""
    share = [0.0] * (N - 1) + [n / N]
    for k in range(N - 2, -1, -1):
        share[k] = share[k + 1] * max(k - n + 2, 0) / (k + 1)
    return tuple(share)


@dataclass(frozen=True, eq=False, kw_only=True)
class BestOfCurve:
    """What best-of-n earns under a proxy and under gold as n grows."""

    n: tuple[int, ...]
    kl: tuple[float, ...]
    """`best_of_kl(n)`: upper bounds."""
    proxy_PN: Float[Tensor, "P K"]
    """The proxy's expectation for each prompt and n."""
    gold_PN: Float[Tensor, "P K"]
    """That of gold; NaN where a completion that may win has no known gold."""
    unknown: int
    """Completions without a known proxy (never chosen), or with a known proxy and no gold."""

    def proxy(self, *, seed: int = 0) -> list[Interval]:
        """The mean over prompts at each n, by a bootstrap over prompts."""
        return [_interval(self.proxy_PN[:, k], seed) for k in range(len(self.n))]

    def gold(self, *, seed: int = 0) -> list[Interval]:
        """The same for gold."""
        return [_interval(self.gold_PN[:, k], seed) for k in range(len(self.n))]

    def turning_point(self, *, confidence: float = 0.95, seed: int = 0) -> Interval:
        """The n at which gold is highest, by a bootstrap over prompts; the last n where it never turns.

        Raises:
            BadInput: when no prompt has a known gold at every n.
        """
        whole = self.gold_PN[~torch.isnan(self.gold_PN).any(1)].numpy()
        if not len(whole):
            raise BadInput("gold", expected="a prompt whose gold is known throughout", received="none")
        table = np.array(self.n, dtype=np.float64)
        best = bootstrap(lambda rows: table[np.asarray(rows).mean(0).argmax()], whole, seed=seed,
                         confidence=confidence)
        return Interval(best.mean, max(best.low, table[0]), min(best.high, table[-1]), len(whole))


def best_of_curve(proxy_PN: Float[Tensor, "P N"], gold_PN: Float[Tensor, "P N"], *, n: Sequence[int] | None = None,
                  ties: Ties = "random") -> BestOfCurve:
    """The curve of proxy and gold from one pool: N scored completions of each of P prompts, NaN where unknown.

    Unbiased for each n (the mean over all subsets of n), and far less noisy than sampling anew. A completion without a
    known proxy is left out of its pool; where it leaves fewer than n, that prompt has no number there.

    Args:
        proxy_PN: What is optimised.
        gold_PN: What is really meant.
        n: Which n; None is 1, 2, 4, ... up to N.
        ties: `subset_weights`.

    Raises:
        BadInput: when the shapes differ, or an n is not in 1..N.

    Example:
        >>> curve = best_of_curve(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
        >>> curve.n, curve.gold_PN.tolist()
        ((1, 2), [[0.5, 0.0]])
    """
    if proxy_PN.shape != gold_PN.shape or proxy_PN.ndim != 2:
        raise BadInput("gold_PN", expected=f"shape {list(proxy_PN.shape)} [prompts, samples], that of the proxy",
                       received=list(gold_PN.shape))
    P, N = proxy_PN.shape
    ns = tuple(2**k for k in range(N.bit_length()) if 2**k <= N) if n is None else tuple(n)
    if not ns or min(ns) < 1 or max(ns) > N:
        raise BadInput("n", expected=f"integers in [1, {N}], the size of the pool", received=ns)
    out = torch.full((2, P, len(ns)), torch.nan, dtype=torch.float64)
    for p in range(P):
        known = ~torch.isnan(proxy_PN[p])
        proxy, gold = proxy_PN[p][known].double().cpu(), gold_PN[p][known].double().cpu()
        for k, size in enumerate(ns):
            if size <= len(proxy):
                weight = subset_weights(proxy, size, ties=ties, gold=gold)
                counts = weight > 0
                out[0, p, k], out[1, p, k] = (weight * proxy).sum(), (weight * gold)[counts].sum()
    missing = torch.isnan(proxy_PN) | torch.isnan(gold_PN)
    return BestOfCurve(n=ns, kl=tuple(map(best_of_kl, ns)), proxy_PN=out[0], gold_PN=out[1],
                       unknown=int(missing.sum()))


def over_optimisation(policy: Policy, proxy: Reward, gold: Reward, prompts: Sequence[Any], *, pool: int = 64,
                      n: Sequence[int] | None = None, ties: Ties = "random", columns: Columns | None = None,
                      seed: int | Seeds = 0) -> BestOfCurve:
    """Draws one pool of completions, scores it with both rewards, and gives `best_of_curve`.

    `columns` are what the rewards read of each prompt, as in `best_of_n`.
    """
    columns = checked(columns, len(prompts))
    tokens = told(policy.sample(prompts, n=pool, seed=seed), columns, range(len(prompts)), [proxy, gold])
    both = [r.score(tokens).returns()[0].view(-1, pool) for r in (proxy, gold)]
    return best_of_curve(*both, n=n, ties=ties)


def _interval(x: Tensor, seed: int) -> Interval:
    known = x[~torch.isnan(x)]
    return mean_interval(known, seed=seed) if len(known) else Interval(math.nan, math.nan, math.nan, 0)
