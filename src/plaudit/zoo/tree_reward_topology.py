"""57 Reward Generalization in RLHF: A Topological Perspective (Qiu et al. 2024, arXiv 2402.10184).

Answers that are compared are sampled as the leaves of a prefix tree instead of independently, with as many labels, and
reward models are said to generalise better. (a) The calculator: over a space of answers whose likeness is known,
comparisons are laid out as chain or tree, and mean inference distances (the variance of r(y1) - r(y2)) compared: by all
ways, through the answers that were compared (the paper's construction, one large tree) and by the best single way
(its bound). (b) Reward models: a character model learns a language with a strong prefix structure, its answers are
compared by a judge that knows their worth, and small transformers are trained on n comparisons of each kind.

Choices: chains come in two forms: two new answers for each comparison, as the paper has it, and as many answers as a
tree has leaves, compared as often, which tells apart what sharing beginnings does and what using an answer again does.
The paper's effective bound is by sets of ways; here the variance itself is computed (Gaussian reading) beside the best
way. The decoder is best-of-n, and the paper's rejection sampling: the policy is fine-tuned on the best of N of prompts
that it is not judged on, with the same updates and step size for all arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from plaudit.core.intervals import Interval
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.feedback.connectivity import Network, answers_of, likeness
from plaudit.feedback.records import Preference
from plaudit.feedback.structure import regime, structural_function
from plaudit.feedback.text.tree_pairs import judged, tree_pairs
from plaudit.feedback.text.trees import PrefixTree
from plaudit.learn.text.embedding import HashedEncoder
from plaudit.optimize.align.best_of import best_of_curve, winners
from plaudit.optimize.align.policy import imitate
from plaudit.optimize.align.small import SmallPolicy
from plaudit.optimize.align.trees import chains, grow_trees
from plaudit.zoo.contract import Arm, Criterion, Outcome, System
from plaudit.zoo.ranks import correlation
from plaudit.zoo.tree_reward_drawing import draw
from plaudit.zoo.tree_reward_models import Population, Row, fit
from plaudit.zoo.tree_reward_space import CHAIN, LARGE, LAYOUTS, REUSED, Space, inference
from plaudit.zoo.tree_reward_world import PROMPTS, World

if TYPE_CHECKING:
    from plaudit.zoo.lab import Lab

TREE = "tree"
SHARP, NOISY = "sharp", "noisy"
WAYS = ("all ways", "through S", "best way")
GLOBAL, SHARED = "accuracy, independent pairs", "accuracy, pairs with a common beginning"


@dataclass(frozen=True, kw_only=True)
class TopologyConfig:
    """Options of the experiment."""

    seeds: int = 8
    """Independent layouts; independent worlds, policies, preference sets and models."""
    K: int = 4
    """Continuations of each node of the space of answers."""
    H: int = 6
    """Its levels."""
    spaces: tuple[tuple[str, float, float], ...] = (
        ("polynomial", 0.25, 0.01), ("polynomial", 0.25, 1.0), ("polynomial", 1.0, 0.01), ("logarithmic", 1.0, 0.01))
    """How likeness falls, by which exponent, and the variance of a comparison; the first one is the paper's regime."""
    laid_out: tuple[int, ...] = (32, 128, 512)
    """Comparisons laid out over it."""
    distances: int = 200
    """Random pairs whose inference distance is taken."""
    comparisons: tuple[int, ...] = (100, 300, 1000)
    """Comparisons that reward models are trained on."""
    each: int = 12
    """Comparisons of one prompt."""
    varied: int = 300
    """Comparisons of the further variants of the tree (of a number in `comparisons`)."""
    rationality: float = 1.0
    """Of the noisy judge; the sharp one does not err."""
    hidden: int = 96
    """Units of the policy."""
    texts: int = 3000
    """Answers that it learns the language from."""
    updates: int = 300
    """Updates of it."""
    dim: int = 24
    """Numbers to a character in a reward model."""
    heads: int = 2
    """Its attention heads."""
    steps: int = 500
    """Updates of each reward model."""
    batch: int = 16
    """Comparisons in an update."""
    lr: float = 4e-3
    """Step size, which falls to 0."""
    decay: float = 0.1
    """Decoupled weight decay."""
    held_out: int = 40
    """Prompts that no model is trained on."""
    judged_prompts: int = 12
    """How many of them best-of-n is run on."""
    pool: int = 256
    """The largest n of best-of-n."""
    tuned_on: tuple[int, ...] = (4, 32, 256)
    """The N of the best-of-N that policies are fine-tuned on, with the models of `varied` comparisons."""
    tuned_prompts: int = 64
    """Prompts whose best answers they are fine-tuned on."""
    tuned_updates: int = 60
    """Updates of 32 answers."""
    tuned_lr: float = 1e-3
    """Step size of fine-tuning."""


# --- the calculator -----------------------------------------------------------------------------------------------


def lay_out(config: TopologyConfig, seeds: Seeds, *, seed: int) -> list[dict[str, Any]]:
    """Mean inference distances of every layout in every space."""
    own, out = seeds.child("space", seed), list[dict[str, Any]]()
    for form, alpha, noise in config.spaces:
        space = Space(K=config.K, H=config.H, alpha=alpha, regime="polynomial" if form == "polynomial" else
                      "logarithmic")
        tree = space.network()
        pairs = own.child("pairs").numpy().integers(space.leaves, size=(config.distances, 2))
        for n in config.laid_out:
            for layout in LAYOUTS:
                rng = own.child(layout, n).numpy()
                out.append({"space": [form, alpha, noise], "n": n, "layout": layout, **inference(
                    space, tree, layout, n, noise=noise, pairs=pairs, rng=rng)})
    return out


# --- reward models ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Exam:
    """What every model of a seed is asked: rows, and where in them each part stands."""

    rows: list[Row]
    gold: torch.Tensor
    pool: int
    """The first rows are this many answers of each judged prompt."""
    prompts: int
    shared: list[tuple[int, int]]
    """Rows of pairs with a common beginning."""

    def results(self, value: torch.Tensor) -> dict[str, Any]:
        """All measures of one model from its rewards of all rows."""
        size = self.pool * self.prompts
        proxy_PN, gold_PN = value[:size].view(-1, self.pool).double(), self.gold[:size].view(-1, self.pool)
        halves = [x.view(-1, 2).T for x in (gold_PN, proxy_PN)]
        first, second = torch.tensor(self.shared).T
        curve = best_of_curve(proxy_PN, gold_PN)
        return {GLOBAL: _agreement(halves[0][0] - halves[0][1], halves[1][0] - halves[1][1]),
                SHARED: _agreement(self.gold[first] - self.gold[second], value[first] - value[second]),
                "n": list(curve.n), "gold": curve.gold_PN.mean(0).tolist()}


def _agreement(gold: torch.Tensor, value: torch.Tensor) -> float:
    known = gold.abs() > 1e-9
    return float(((gold > 0) == (value > 0))[known].double().mean())


def make_exam(config: TopologyConfig, world: World, policy: SmallPolicy, held: Sequence[str], seeds: Seeds) -> Exam:
    """Independent answers and trees to prompts that no model has seen."""
    drawn = policy.sample(held[:config.judged_prompts], n=config.pool, seed=seeds.child("pool"))
    rows: list[Row] = list(zip(drawn.columns["prompt"], drawn.columns["completion"], strict=True))
    shared: list[tuple[int, int]] = []
    for tree in grow_trees(policy, held, seed=seeds.child("trees")):
        at = {leaf: len(rows) + k for k, leaf in enumerate(tree.leaves())}
        rows += [(tree.prompt, str(tree.nodes[leaf].completion)) for leaf in at]
        shared += [(at[a], at[b]) for a in at for b in at if a < b and tree.common(a, b) > 0]
    gold = torch.tensor([world.gold(*row) for row in rows], dtype=torch.float64)
    return Exam(rows=rows, gold=gold, pool=config.pool, prompts=config.judged_prompts, shared=shared)


def name_of(kind: str, n: int, judge: str = SHARP) -> str:
    """What a preference set is called."""
    return f"{kind}, {n}, {judge}"


def collect(config: TopologyConfig, world: World, policy: SmallPolicy, prompts: Sequence[str], seeds: Seeds
            ) -> tuple[dict[str, list[Preference]], dict[str, int]]:
    """The preference sets of all arms, and how many tokens were sampled for each."""
    sets, tokens = dict[str, list[Preference]](), dict[str, int]()
    grown: dict[str, list[PrefixTree]] = {
        TREE: grow_trees(policy, prompts, seed=seeds.child("tree")),
        CHAIN: chains(policy, prompts, 2 * config.each + 2, seed=seeds.child("chain")),
        REUSED: chains(policy, prompts, 8, seed=seeds.child("reused"))}
    variants: dict[str, tuple[list[PrefixTree], float, int]] = {
        f"{TREE}, a quarter incomplete": (grown[TREE], 0.25, config.each),
        f"{TREE}, D 2, B 4": (grow_trees(policy, prompts, depth=2, branching=4, seed=seeds.child("wide")), 0.0,
                              config.each),
        f"{TREE}, D 5, B 2": (grow_trees(policy, prompts, depth=5, seed=seeds.child("deep")), 0.0, config.each),
        f"{TREE}, on three times as many prompts": (grown[TREE], 0.0, config.each // 3),
        f"{CHAIN}, on three times as many prompts": (grown[CHAIN], 0.0, config.each // 3)}

    def add(kind: str, n: int, judge: str, trees: list[PrefixTree], incomplete: float, each: int) -> None:
        some = trees[:-(-n // each)]
        name, own = name_of(kind, n, judge), seeds.child("pairs", kind.split(",")[0], n)
        pairs = tree_pairs(some, n, seed=own, incomplete=incomplete, disjoint=kind.startswith(CHAIN) and kind != REUSED)
        beta = float("inf") if judge == SHARP else config.rationality
        sets[name] = judged(pairs, world.judge, rationality=beta, annotator=judge, seed=own.child("noise"))
        used = {id(p.tree): p.tree for p in pairs}.values()
        tokens[name] = sum(t.sampled for t in used) if each == config.each else 0

    for n in config.comparisons:
        for kind in (TREE, CHAIN, REUSED):
            for judge in (SHARP, NOISY):
                add(kind, n, judge, grown[kind], 0.0, config.each)
    for kind, (trees, incomplete, each) in variants.items():
        add(kind, config.varied, SHARP, trees, incomplete, each)
    return sets, tokens


def measure(config: TopologyConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """All reward models of one seed, and what each of them says."""
    own = seeds.child("world", seed)
    world = World.make(own.child("worth"))
    policy = world.policy(own.child("policy"), hidden=config.hidden, texts=config.texts, updates=config.updates,
                          device=device)
    order = [PROMPTS[int(i)] for i in own.child("prompts").numpy().permutation(len(PROMPTS))]
    held, prompts = order[:config.held_out], order[config.held_out:]
    most = max(*(-(-n // config.each) for n in config.comparisons), -(-config.varied // (config.each // 3)))
    exam = make_exam(config, world, policy, held, own.child("exam"))
    sets, tokens = collect(config, world, policy, prompts[:most], own.child("sets"))
    model = fit(list(sets.values()), own.child("fit"), dim=config.dim, heads=config.heads, steps=config.steps,
                batch=config.batch, lr=config.lr, decay=config.decay, device=device)
    value = _scores(model, exam.rows)
    distance = far_from(sets, exam, config)
    return {"models": {name: {**exam.results(v), "tokens": tokens[name], "distance": distance.get(name),
                              "ties": float(np.mean([r.tie for r in sets[name]]))}
                       for name, v in zip(sets, value, strict=True)},
            "policy": float(exam.gold[:exam.pool * exam.prompts].mean()), "structure": structure(exam),
            "tuned": fine_tuned(config, world, policy, {kind: list(sets).index(name_of(kind, config.varied))
                                                        for kind in (TREE, CHAIN, REUSED)}, model, prompts, held, own)}


def fine_tuned(config: TopologyConfig, world: World, policy: SmallPolicy, at: dict[str, int], model: Population,
               prompts: Sequence[str], held: Sequence[str], seeds: Seeds) -> dict[str, list[float]]:
    """Rejection sampling: gold of what the policy says to held-out prompts once it imitates the best of N, by kind."""
    largest, out = max(config.tuned_on), dict[str, list[float]]()
    drawn = policy.sample(prompts[:config.tuned_prompts], n=largest, seed=seeds.child("rejected"))
    rows: list[Row] = list(zip(drawn.columns["prompt"], drawn.columns["completion"], strict=True))
    value = _scores(Population(model.flat[list(at.values())], model.dim, model.heads), rows)
    known, place = torch.ones(drawn.B, dtype=torch.bool), torch.arange(drawn.B).view(-1, largest)
    start = {name: x.clone() for name, x in policy.state_dict().items()}
    for kind, paid in zip(at, value, strict=True):
        out[kind] = []
        for N in config.tuned_on:
            some = place[:, :N].flatten()
            best = some[winners(paid[some], known[some], N)[0]]
            imitate(policy, drawn[best], updates=config.tuned_updates, batch=32, lr=config.tuned_lr,
                    seed=seeds.child("imitate"))
            said = policy.sample(held[:config.judged_prompts], n=32, seed=seeds.child("tuned"))
            out[kind].append(float(np.mean([world.gold(*row) for row in zip(
                said.columns["prompt"], said.columns["completion"], strict=True)])))
            policy.load_state_dict(start)
    return out


def _scores(model: Population, rows: Sequence[Row]) -> torch.Tensor:
    different = {row: i for i, row in enumerate(dict.fromkeys(rows))}
    return model.score(list(different))[:, torch.tensor([different[row] for row in rows])]


def far_from(sets: dict[str, list[Preference]], exam: Exam, config: TopologyConfig) -> dict[str, float]:
    """How far apart held-out answers to one prompt are, by each set of a sharp judge and likeness of spelling."""
    encode, out = HashedEncoder(dim=128), dict[str, float]()
    asked = [row for p in range(exam.prompts) for row in exam.rows[p * exam.pool:p * exam.pool + 8]]
    pairs = [(8 * p + i, 8 * p + i + 1) for p in range(exam.prompts) for i in range(0, 8, 2)]
    for name in (name_of(kind, n) for kind in (TREE, CHAIN, REUSED) for n in config.comparisons):
        answers, compared = answers_of(sets[name])
        near = likeness(encode([f"{a} {b}" for a, b in [*asked, *answers]]))
        network = near.joined(Network(near.nodes, compared + len(asked), np.full(len(compared), 0.01)))
        found = network.distances(pairs)
        out[name] = float(found[np.isfinite(found)].mean())
    return out


def structure(exam: Exam) -> dict[str, Any]:
    """F(M) of answers to one prompt by likeness of spelling, and its form."""
    texts = list(dict.fromkeys(answer for _, answer in exam.rows[:min(exam.pool, 128)] if answer.strip()))
    e, groups = HashedEncoder(dim=128)(texts).double().numpy(), [2, 4, 8, 16]
    if len(texts) < 3 * groups[-1]:
        return {}
    F = structural_function(np.maximum(1 - e @ e.T, 0.0), groups)
    found = regime(groups, F)
    return {"groups": groups, "F": F.tolist(), "form": found.form, "alpha": found.alpha}


# --- what the seeds say together ------------------------------------------------------------------------------------


def run(config: TopologyConfig, lab: Lab) -> Outcome:
    """All layouts, all models, and what the paper claims of them."""
    lab.plan(2 * config.seeds)
    spaces = lab.units(lay_out, {f"layouts {s}": {"seed": s} for s in range(config.seeds)})
    found = lab.units(measure, {f"models {s}": {"seed": s} for s in range(config.seeds)})
    largest = config.laid_out[-1]

    def gain(way: str, n: int, other: str = CHAIN) -> list[float]:
        return [_distance(rows, config.spaces[0], n, other, way) / _distance(rows, config.spaces[0], n, LARGE, way)
                for rows in spaces]

    def less(kind: str, other: str, metric: str, ns: Sequence[int], judge: str = SHARP) -> Interval:
        each = [np.mean([_of(f, kind, n, judge, metric) - _of(f, other, n, judge, metric) for n in ns]) for f in found]
        return mean_interval(each)

    top, ns = f"gold of best-of-{config.pool}", config.comparisons
    criteria = [
        Criterion(says=f"mean inference distance, chain / one large tree, by all ways, n = {largest}", above=1.0,
                  value=mean_interval(gain("all ways", largest))),
        Criterion(says="the same through the compared answers", above=1.0,
                  value=mean_interval(gain("through S", largest))),
        Criterion(says="the same by the best single way, the paper's bound", above=1.0,
                  value=mean_interval(gain("best way", largest))),
        Criterion(says=f"that through the compared answers grows from n = {config.laid_out[0]}", above=0.0,
                  value=mean_interval(np.subtract(gain("through S", largest), gain("through S", config.laid_out[0])))),
        Criterion(says=f"{GLOBAL}, tree less chain, sharp judge", value=less(TREE, CHAIN, GLOBAL, ns), above=0.0),
        Criterion(says=f"{SHARED}, tree less chain, sharp judge, n = {ns[0]}", above=0.0,
                  value=less(TREE, CHAIN, SHARED, ns[:1])),
        Criterion(says=f"{top}, tree less chain, sharp judge", value=less(TREE, CHAIN, top, ns), above=0.0),
        Criterion(says="what more samples bring (from 16 on), tree less chain", value=less(TREE, CHAIN, "rise", ns),
                  above=0.0),
        Criterion(says="tokens sampled, tree / chain", below=1.0, value=mean_interval(
            [_of(f, TREE, ns[-1], SHARP, "tokens") / _of(f, CHAIN, ns[-1], SHARP, "tokens") for f in found]))]
    return Outcome(arms=[*_space_arms(config, spaces), *_model_arms(config, found, top), *_further(config, found)],
                   criteria=criteria, data=_curves(config, spaces, found))


def _distance(rows: Sequence[dict[str, Any]], space: Sequence[Any], n: int, layout: str, way: str) -> float:
    return next(r[way] for r in rows if r["space"] == list(space) and r["n"] == n and r["layout"] == layout)


def _of(found: dict[str, Any], kind: str, n: int, judge: str, metric: str) -> float:
    model = found["models"][name_of(kind, n, judge)]
    if metric == "rise":
        return model["gold"][-1] - model["gold"][min(4, len(model["gold"]) - 2)]
    return model["gold"][-1] if metric.startswith("gold of") else model[metric]


def _space_arms(config: TopologyConfig, spaces: Sequence[Any]) -> list[Arm]:
    n = config.laid_out[-1]
    return [Arm(name=layout, baseline=layout in (CHAIN, REUSED),
                metric=f"inference distance, {way}: {space[0]} {space[1]:g}, noise {space[2]:g}, n = {n}",
                value=mean_interval([_distance(rows, space, n, layout, way) for rows in spaces]))
            for space in config.spaces for way in WAYS for layout in LAYOUTS]


def _model_arms(config: TopologyConfig, found: Sequence[dict[str, Any]], top: str) -> list[Arm]:
    arms = [Arm(name=kind, baseline=kind != TREE, metric=f"{metric}, n = {n}, {judge} judge",
                value=mean_interval([_of(f, kind, n, judge, metric) for f in found]))
            for judge in (SHARP, NOISY) for n in config.comparisons for metric in (GLOBAL, SHARED, top)
            for kind in (TREE, CHAIN, REUSED)]
    variants = [name.rsplit(", ", 2)[0] for name in found[0]["models"]]
    arms += [Arm(name=kind, baseline=kind.startswith(CHAIN), metric=f"{metric}, n = {config.varied}, {SHARP} judge",
                 value=mean_interval([_of(f, kind, config.varied, SHARP, metric) for f in found]))
             for kind in dict.fromkeys(variants) if kind not in (TREE, CHAIN, REUSED)
             for metric in (GLOBAL, SHARED, top)]
    return arms


def _further(config: TopologyConfig, found: Sequence[dict[str, Any]]) -> list[Arm]:
    """Tokens, ties, the policy, the form of F, and whether the calculator foretells accuracy."""
    n, kinds = config.comparisons[-1], (TREE, CHAIN, REUSED)
    arms = [Arm(name=kind, metric=metric, baseline=kind != TREE, value=mean_interval(
        [_of(f, kind, n, SHARP, key) for f in found]))
        for key, metric in (("tokens", f"tokens sampled, n = {n}"), ("ties", f"share of ties, n = {n}"),
                            ("distance", f"inference distance of held-out answers, n = {n}")) for kind in kinds]
    arms += [Arm(name=kind, baseline=kind != TREE, value=mean_interval([f["tuned"][kind][i] for f in found]),
                 metric=f"gold once fine-tuned on best-of-{N}, n = {config.varied}, {SHARP} judge")
             for i, N in enumerate(config.tuned_on) for kind in kinds]
    arms.append(Arm(name="policy", metric="gold of one sample", baseline=True,
                    value=mean_interval([f["policy"] for f in found])))
    alphas = [f["structure"]["alpha"] for f in found if f["structure"]]
    if alphas:
        power = np.mean([f["structure"]["form"] == "polynomial" for f in found if f["structure"]])
        arms.append(Arm(name="language", metric="exponent of F(M), by spelling", value=mean_interval(alphas),
                        note=f"a power of M in {power:.0%} of worlds"))
    table = {key: np.array([[[_of(f, kind, m, SHARP, key) for f in found] for m in config.comparisons]
                            for kind in kinds]) for key in ("distance", GLOBAL)}
    for metric, level in (("over sets", 0.0), ("over sets of equal size", 1.0)):
        x, y = ((t - level * t.mean(0, keepdims=True)).reshape(-1, len(found)) for t in table.values())
        arms.append(Arm(name="inference distance", metric=f"Spearman with {GLOBAL}, {metric}", value=correlation(x, y)))
    return arms


def _curves(config: TopologyConfig, spaces: Sequence[Any], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = config.spaces[0]
    return {
        "laid out": list(config.laid_out), "comparisons": list(config.comparisons), "pool": found[0]["models"][
            name_of(TREE, config.comparisons[0])]["n"],
        "gain": {way: {other: [[_distance(rows, first, n, other, way) / _distance(rows, first, n, LARGE, way)
                                for n in config.laid_out] for rows in spaces] for other in (CHAIN, REUSED)}
                 for way in WAYS},
        "gold": {kind: [np.mean([f["models"][name_of(kind, n)]["gold"] for n in config.comparisons], 0).tolist()
                        for f in found] for kind in (TREE, CHAIN, REUSED)}}


SYSTEM = System(
    number=57, name="tree-reward-topology", title="Tree-structured reward data: a topological perspective",
    room="feedback",
    claim="Where a task is diverse and labels are scarce, comparing the leaves of prefix trees instead of independent "
          "answers lowers the mean inference distance by log n / log log n, so that reward models generalise better "
          "and best-of-n keeps improving where it saturates with chains; the tree costs fewer tokens.",
    scales={"smoke": TopologyConfig(seeds=2, K=2, H=5, laid_out=(6, 12), distances=20, comparisons=(12, 24), varied=12,
                                    each=3, spaces=(("polynomial", 0.25, 0.01), ("logarithmic", 1.0, 0.01)), hidden=16,
                                    texts=100, updates=15, dim=8, steps=8, batch=8, held_out=6, judged_prompts=3,
                                    pool=32, tuned_on=(2, 8), tuned_prompts=4, tuned_updates=2),
            "small": TopologyConfig(),
            "paper": TopologyConfig(seeds=10, K=4, H=7, laid_out=(32, 64, 128, 256, 512, 1024, 2048, 4096),
                                    distances=2000, hidden=384, texts=30_000, updates=3000, dim=128, heads=4,
                                    steps=3000, batch=64, lr=1e-3, judged_prompts=40, tuned_on=(4, 16, 64, 512),
                                    tuned_updates=200)},
    run=run, draw=draw, any_device=True)
