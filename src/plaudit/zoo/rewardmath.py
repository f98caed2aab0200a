"""39 RewardMATH (Kim et al. 2024, arXiv 2410.01729): which benchmark says what happens when a reward is optimised?

Synthetic maths with known truth. Two benchmarks are made of the same problems: (A) as RewardBench's maths subset, one
right solution as people write it against one wrong one as machines write it; (B) as RewardMATH, the right solution
rewritten in the style of machines against nine wrong ones from nine sources (kinds of mistakes). Over forty reward
models of graded quality (habits, partial and noisy checkers, judges, process models, small learned ones) are scored on
both and then optimised: best-of-n on samples of a policy of middling skill. The claim is about the rank correlation
between a model's place in the benchmark and the true accuracy of what it selects. Beside it: one against many and style
conversion apart from one another, 1 to 9 wrong solutions, leaving each source out, accuracy and MRR, ties, judges that
answer directly or in pairs, and eight ways to put step scores together.

Choices: what makes optimising style harmful is that terse solutions go wrong more often (`haste`), as answers without
reasoning do. The correlation is a mean over seeds, its interval a bootstrap over reward models, which are what is
compared. Best-of-n stands for optimisation; PPO of a language model belongs to the paper's scale. Of equally good
solutions best-of-n takes any. The paper lets them vote; that is an arm of its own since a first run showed what it
does: a model that pays all alike gets the accuracy of the majority's answer, which is no merit of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from plaudit.auditing.text.answers import same
from plaudit.auditing.text.checks.ranking import one_to_many
from plaudit.core.errors import BadInput
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.feedback.records import Preference
from plaudit.feedback.text.checks import raise_faults
from plaudit.learn.text.process import AGGREGATIONS, check_one_to_many
from plaudit.optimize.align.best_of import best_of_curve, best_of_kl
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.drawing import panels
from plaudit.zoo.ranks import correlation, correlation_gap
from plaudit.zoo.rewardmath_drawing import draw_curves, draw_designs, draw_scatter
from plaudit.zoo.rewardmath_models import FINAL, Read, aggregations, checks, learn, noise, read, scripted, words
from plaudit.zoo.rewardmath_texts import ERRORS, MathItem, Solution, make_item, make_problem, policy_samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from plaudit.zoo.lab import Lab

Array: TypeAlias = NDArray[np.float64]
ONE, ONE_MATCHED = "one to one, confounded", "one to one, matched"
NINE_PLAIN, NINE = "one to nine, confounded", "one to nine, matched"
DESIGNS = (ONE, ONE_MATCHED, NINE_PLAIN, NINE)
STYLE = "terse style"
LEARNED = "learned"


@dataclass(frozen=True, kw_only=True)
class RewardMathConfig:
    """Options of the experiment."""

    seeds: int = 5
    """Independent problems, solutions, errors and trained models."""
    items: int = 300
    """Problems of the benchmarks."""
    problems: int = 96
    """Problems that policies are judged on."""
    pool: int = 64
    """The largest n of best-of-n: samples of each problem."""
    mistakes: tuple[float, float] = (0.8, 2.4)
    """The mean number of mistakes in a long solution, between easy and hard problems."""
    terse: float = 0.3
    """The share of terse solutions among the policy's."""
    haste: float = 1.5
    """How many times more mistakes a terse solution of the policy has."""
    confounding: float = 0.98
    """How often a side of a confounded pair has its usual style."""
    train_pairs: tuple[int, int] = (40, 400)
    """Pairs that learned models see, few and many."""
    train_steps: int = 60
    """Their updates."""
    hidden: int = 16
    """Their hidden units."""
    lr: float = 0.05
    """Their step size."""
    resamples: int = 2000
    """Bootstrap samples of the reward models, for the correlations."""
    unparsed: float = 0.03
    """How often a judge's answer cannot be read, which counts as failure."""


# --- the benchmarks -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Bench:
    """All solutions of all items, read once; `right`, `wrong` and `terse_wrong` say which is which."""

    seen: Read
    right: Mapping[str, NDArray[np.int64]]
    """[items] by style."""
    wrong: NDArray[np.int64]
    """[items, 9]: long solutions, in the order of ERRORS."""
    terse_wrong: NDArray[np.int64]
    """[items, 9]."""

    def scores(self, value: Array, design: str, odd: NDArray[np.bool_], pick: NDArray[np.int64]
               ) -> tuple[Array, Array]:
        """Scores of the right solution [items] and of the wrong ones [items, k] under a design."""
        long, terse = value[self.right["long"]], value[self.right["terse"]]
        if design in (NINE, NINE_PLAIN):
            return (long if design == NINE else terse), value[self.wrong]
        rows = np.arange(len(pick))
        plain, short = value[self.wrong[rows, pick]], value[self.terse_wrong[rows, pick]]
        if design == ONE_MATCHED:
            return long, plain[:, None]
        return np.where(odd[0], long, terse), np.where(odd[1], short, plain)[:, None]


def make_bench(items: Sequence[MathItem]) -> Bench:
    """Lays out the solutions of the items and reads them.

    Raises:
        BadInput: where a wrong solution is right after all, or two of an item are the same.
    """
    for style in ("terse", "long"):
        raise_faults(check_one_to_many(
            [Preference(context=i.problem.text, correct=(True, *(False,) * len(ERRORS)),
                        options=(i.right[style].text, *(s.text for s in i.wrong[style]))) for i in items],
            answer=final_answer, same=same))
    blocks: list[Solution] = []
    for i in items:
        blocks += [i.right["terse"], i.right["long"], *i.wrong["long"], *i.wrong["terse"]]
    size = 2 + 2 * len(ERRORS)
    start = np.arange(len(items))[:, None] * size
    return Bench(seen=read([i.problem for i in items for _ in range(size)], blocks),
                 right={"terse": start[:, 0], "long": start[:, 0] + 1},
                 wrong=start + 2 + np.arange(len(ERRORS)), terse_wrong=start + 2 + len(ERRORS) + np.arange(len(ERRORS)))


def final_answer(text: str) -> str | None:
    """The number that a solution ends with.

    Example:
        >>> final_answer("2 + 3 = 5. So it is 5.")
        '5'
    """
    found = FINAL.search(text)
    return found[1] if found else None


def learned(config: RewardMathConfig, seeds: Seeds, *, device: str = "cpu") -> Any:
    """Small models trained on confounded and on matched pairs; returns what scores what was `Read`."""
    rng = seeds.numpy()
    n = max(config.train_pairs)
    bench = make_bench([make_item(rng) for _ in range(n)])
    rows, pick = np.arange(n), rng.integers(len(ERRORS), size=n)
    odd = rng.random((2, n)) > config.confounding
    sides = {"confounded": (np.where(odd[0], bench.right["long"], bench.right["terse"]),
                            np.where(odd[1], bench.terse_wrong[rows, pick], bench.wrong[rows, pick])),
             "matched": (bench.right["long"], bench.wrong[rows, pick])}
    names = [f"{kind}, {size} pairs" for kind in sides for size in config.train_pairs]
    use = [(kind, np.resize(rows[:size], n)) for kind in sides for size in config.train_pairs]
    used = np.unique(np.concatenate([side[take] for kind, take in use for side in sides[kind]]))
    noisy, fitted = seeds.child("reading"), {}
    for what, features in (("words", words([bench.seen.texts[int(i)] for i in used])),
                           ("checks", checks(bench.seen, noisy=noisy)[used])):
        better, worse = (torch.stack([features[np.searchsorted(used, sides[kind][side][take])] for kind, take in use])
                         .to(device) for side in (0, 1))
        fitted[what] = learn(better, worse, seeds.child(what), hidden=config.hidden, steps=config.train_steps,
                             lr=config.lr)

    def score(seen: Read) -> dict[str, Array]:
        out = {}
        for what, x in (("words", words(seen.texts)), ("checks", checks(seen, noisy=noisy))):
            with torch.no_grad():
                value = fitted[what](x.to(device).expand(len(use), -1, -1))[..., 0].double().cpu().numpy()
            out |= {f"{LEARNED} from {what}, {name}": v for name, v in zip(names, value, strict=True)}
        return out

    return score


# --- one seed -------------------------------------------------------------------------------------------------


def measure(config: RewardMathConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """Every reward model on every benchmark, and what best-of-n makes of it."""
    own = seeds.child("seed", seed)
    rng = own.child("items").numpy()
    bench = make_bench([make_item(rng) for _ in range(config.items)])
    odd = rng.random((2, config.items)) > config.confounding
    pick = rng.integers(len(ERRORS), size=config.items)
    pool_rng = own.child("pool").numpy()
    problems = [make_problem(pool_rng) for _ in range(config.problems)]
    hard = pool_rng.uniform(*config.mistakes, size=config.problems)
    samples = [s for p, m in zip(problems, hard, strict=True) for s in policy_samples(
        p, config.pool, pool_rng, mistakes=float(m), terse=config.terse, haste=config.haste)]
    drawn = read([p for p in problems for _ in range(config.pool)], samples)
    trained, errors = learned(config, own.child("learned"), device=device), own.child("errors")
    both = [scripted(seen, errors) | trained(seen) for seen in (bench.seen, drawn)]
    models = {name: on_bench(bench, value, odd, pick, rng=own.child("order").numpy())
              | on_pool(config, drawn, both[1][name]) for name, value in both[0].items()}
    steps = {how: _acc_mrr(bench, value) for how, value in aggregations(bench.seen, errors).items()}
    return {"models": models, "steps": steps, "pairwise judge": pairwise_judge(config, bench, errors),
            "policy": float(drawn.truth.mean())}


def on_bench(bench: Bench, value: Array, odd: NDArray[np.bool_], pick: NDArray[np.int64], *,
             rng: np.random.Generator) -> dict[str, Any]:
    """Acc and MRR under each design, with 1 to 9 wrong solutions, and without each source."""
    found = {d: one_to_many(*(x.tolist() for x in bench.scores(value, d, odd, pick))) for d in DESIGNS}
    right, wrong = bench.scores(value, NINE, odd, pick)
    order = rng.permuted(np.tile(np.arange(len(ERRORS)), (len(right), 1)), axis=1)
    mixed = np.take_along_axis(wrong, order, 1)
    below = np.maximum.accumulate(mixed, 1)
    return {"acc": {d: f.accuracy for d, f in found.items()}, "mrr": {d: f.mrr for d, f in found.items()},
            "ties": {d: f.accuracy_with_ties for d, f in found.items()},
            "rejected": (right[:, None] > below).mean(0).tolist(),
            "without": {e: float((right > np.delete(wrong, k, 1).max(1)).mean()) for k, e in enumerate(ERRORS)}}


def on_pool(config: RewardMathConfig, drawn: Read, value: Array) -> dict[str, Any]:
    """True accuracy of best-of-n: ties by vote at the largest n, and the curve of proxy and gold."""
    shape = (config.problems, config.pool)
    score, truth, answer = (x.reshape(shape) for x in (value, drawn.truth, drawn.answer))
    curve = best_of_curve(torch.from_numpy(score), torch.from_numpy(truth))
    spread = float(value.std()) or 1.0
    return {"vote": float(np.mean([voted(s, a, t) for s, a, t in zip(score, answer, truth, strict=True)])),
            "gold": curve.gold_PN.mean(0).tolist(), "n": list(curve.n),
            "proxy": ((curve.proxy_PN.mean(0) - value.mean()) / spread).tolist()}


def voted(score: Array, answer: Array, truth: Array) -> float:
    """Whether the answer that most of the best solutions give is right.

    Example:
        >>> voted(np.array([1.0, 1.0, 1.0, 0.0]), np.array([5.0, 7.0, 7.0, 5.0]), np.array([1.0, 0.0, 0.0, 1.0]))
        0.0
    """
    top = np.flatnonzero(score == score.max())
    most = Counter(answer[top].tolist()).most_common(1)[0][0]
    return float(truth[top[answer[top] == most][0]])


def pairwise_judge(config: RewardMathConfig, bench: Bench, errors: Seeds, *, bias: float = 0.4,
                   sigma: float = 0.5) -> dict[str, float]:
    """A judge that compares: rank = 1 + lost pairs. It favours what it reads first, and may be unreadable."""
    key = bench.seen.key
    a, b = key[bench.right["long"]][:, None], key[bench.wrong]
    pair = ((a * 31 + b) % (1 << 31)).ravel()
    said = 1 + sigma * noise(pair, "pair", errors) + bias * np.sign(noise(pair, "order", errors))
    read_well = np.abs(noise(pair, "parse", errors)) > 1.2533 * config.unparsed  # the density of |x| at 0, inverted
    lost = (~((said > 0) & read_well)).reshape(b.shape).sum(1)
    return {"acc": float((lost == 0).mean()), "mrr": float((1 / (1 + lost)).mean())}


def _acc_mrr(bench: Bench, value: Array) -> dict[str, float]:
    found = one_to_many(value[bench.right["long"]].tolist(), value[bench.wrong].tolist())
    return {"acc": found.accuracy, "mrr": found.mrr}


# --- what the seeds say together --------------------------------------------------------------------------------


def table(found: Sequence[Mapping[str, Any]], *path: str | int) -> Array:
    """One number of every model and seed: [models, seeds]."""
    out = []
    for name in found[0]["models"]:
        row = []
        for one in found:
            value = one["models"][name]
            for key in path:
                value = value[key]
            row.append(value)
        out.append(row)
    return np.array(out, dtype=np.float64)


def run(config: RewardMathConfig, lab: Lab) -> Outcome:
    """All seeds, then the correlations."""
    if config.pool < 2 or config.items < 2:
        raise BadInput("config", expected="at least 2 items and a pool of 2", received=(config.items, config.pool))
    lab.plan(config.seeds)
    found = lab.units(measure, {f"seed {s}": {"seed": s} for s in range(config.seeds)})
    names = list(found[0]["models"])
    gold, vote = table(found, "gold", -1), table(found, "vote")
    by_design = {d: table(found, "acc", d) for d in DESIGNS}
    after = f"Spearman with best-of-{config.pool} accuracy"
    goes: dict[tuple[str, str], tuple[Array, Array]] = {}
    for d in DESIGNS:
        goes |= {(f"{d}, Acc", after): (by_design[d], gold), (f"{d}, MRR", after): (table(found, "mrr", d), gold),
                 (f"{d}, Acc", f"{after}, ties by vote"): (by_design[d], vote)}
    goes |= {(f"{NINE}, Acc, ties for", after): (table(found, "ties", NINE), gold),
             (f"{NINE}, Acc, ties for", f"{after}, ties by vote"): (table(found, "ties", NINE), vote)}
    goes |= {(f"{k + 1} rejected, matched", after): (table(found, "rejected", k), gold) for k in range(len(ERRORS))}
    goes |= {(f"{NINE}, without {e}", after): (table(found, "without", e), gold) for e in ERRORS}
    arms = [Arm(name=name, metric=metric, value=correlation(x, y, resamples=config.resamples),
                baseline=not name.startswith(NINE)) for (name, metric), (x, y) in goes.items()]
    arms += _model_arms(found, names, config.pool) + _other_arms(found)
    chosen = _pair(names, by_design)
    ns = found[0]["models"][names[0]]["n"]
    return Outcome(arms=arms, criteria=_criteria(found, names, by_design, gold, chosen), data={
        "names": names, "gold": _rounded(gold), "acc": {d: _rounded(x) for d, x in by_design.items()}, "pair": chosen,
        "curves": {name: {"n": ns, "kl": list(map(best_of_kl, ns)),
                          "gold": [f["models"][name]["gold"] for f in found],
                          "proxy": [f["models"][name]["proxy"] for f in found]} for name in chosen.values()}})


def _pair(names: Sequence[str], by_design: Mapping[str, Array]) -> dict[str, str]:
    """Chosen by the benchmarks alone: best in A beyond what B says, and best in B of what is learned."""
    a, b = by_design[ONE].mean(1), by_design[NINE].mean(1)
    small = [i for i, name in enumerate(names) if name.startswith(LEARNED)]
    return {"high A, low B": names[int(np.argmax(a - b))], "high B": names[max(small, key=lambda i: b[i])]}


def _criteria(found: Sequence[Mapping[str, Any]], names: list[str], by_design: Mapping[str, Array], gold: Array,
              chosen: Mapping[str, str]) -> list[Criterion]:
    style = names.index(STYLE)
    gains = {role: mean_interval([f["models"][name]["gold"][-1] - f["models"][name]["gold"][0] for f in found])
             for role, name in chosen.items()}
    return [
        Criterion(says="Acc of a style-only model on the confounded one-to-one benchmark (A)", above=0.9,
                  value=mean_interval(by_design[ONE][style])),
        Criterion(says="Acc of the same on the matched one-to-nine benchmark (B)", below=0.2,
                  value=mean_interval(by_design[NINE][style])),
        Criterion(says="Spearman of B with the accuracy of best-of-n", above=0.8,
                  value=correlation(by_design[NINE], gold)),
        Criterion(says="Spearman of B less that of A", above=0.2,
                  value=correlation_gap(by_design[NINE], by_design[ONE], gold)),
        Criterion(says=f"gold gained by best-of-n, the model highest in A less B ({chosen['high A, low B']})",
                  value=gains["high A, low B"], below=0.0),
        Criterion(says=f"gold gained by best-of-n, the learned model highest in B ({chosen['high B']})",
                  value=gains["high B"], above=0.0)]


def _model_arms(found: Sequence[Mapping[str, Any]], names: list[str], pool: int) -> list[Arm]:
    metrics = ((f"Acc, {ONE} (A)", ("acc", ONE)), (f"Acc, {NINE} (B)", ("acc", NINE)), ("MRR, B", ("mrr", NINE)),
               (f"accuracy of best-of-{pool}", ("gold", -1)),
               (f"accuracy of best-of-{pool}, ties by vote", ("vote",)))
    values = {metric: table(found, *path) for metric, path in metrics}
    return [Arm(name=name, metric=metric, value=mean_interval(values[metric][i])) for i, name in enumerate(names)
            for metric, _ in metrics]


def _other_arms(found: Sequence[Mapping[str, Any]]) -> list[Arm]:
    out = [Arm(name=f"steps by {how}", metric=f"{kind}, B", value=mean_interval([f["steps"][how][key] for f in found]))
           for how in AGGREGATIONS for kind, key in (("Acc", "acc"), ("MRR", "mrr"))]
    out += [Arm(name="judge in pairs", metric=f"{kind}, B", value=mean_interval(
        [f["pairwise judge"][key] for f in found])) for kind, key in (("Acc", "acc"), ("MRR", "mrr"))]
    judge = "judge, 1 to 10"
    out.append(Arm(name=judge, metric="Acc, B, ties for", value=mean_interval(
        [f["models"][judge]["ties"][NINE] for f in found])))
    return [*out, Arm(name="policy", metric="accuracy of one sample", baseline=True,
                      value=mean_interval([f["policy"] for f in found]))]


def _rounded(x: Array) -> list[float]:
    return [round(float(v), 4) for v in x.mean(1)]


def draw(result: ZooResult) -> Figure:
    """Both benchmarks against optimisation, the correlations by design, and two curves."""
    figure, axes = panels(14.5, 4.4, columns=4)
    draw_scatter(axes[0], result, ONE, "A: one to one, confounded")
    draw_scatter(axes[1], result, NINE, "B: one to nine, matched")
    draw_designs(axes[2], result, DESIGNS)
    draw_curves(axes[3], result)
    return figure


SYSTEM = System(
    number=39, name="rewardmath", title="RewardMATH: one right solution against many wrong ones", room="auditing",
    claim="How a reward model ranks one right solution among nine wrong ones of the same style foretells how good "
          "the solutions are that optimising against it selects; one confounded pair a problem hardly does: a model of "
          "style alone is right there and useless here.",
    scales={"smoke": RewardMathConfig(seeds=2, items=16, problems=6, pool=8, train_pairs=(8, 16), train_steps=8,
                                      resamples=200),
            "small": RewardMathConfig(),
            "paper": RewardMathConfig(seeds=10, items=483, problems=500, pool=256, train_pairs=(60, 20_000),
                                      train_steps=1000)},
    run=run, draw=draw, any_device=True)
