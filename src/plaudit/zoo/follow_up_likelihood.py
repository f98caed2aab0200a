"""13 FLR (Zhang et al. 2024, arXiv 2409.13948): is the likelihood of follow-ups a reward?

Experiment 1: SmolLM2-135M-Instruct, frozen, on pairs of English answers with a known order, of four kinds. The FLR (the
difference of satisfied and dissatisfied follow-ups) beside satisfied ones alone, dissatisfied ones alone, one category
alone, the likelihood of the response itself, its length, chance, and MiniLM's cosine of request and answer.

Experiment 2: a language model is tuned on feedback in words, roles exchanged. Beside it the untuned one under both
templates, one that is tuned as the user, and one whose feedback was shuffled.

Experiment 3: pairs mined by FLR from the model's own samples, then DPO, and KTO on the same pairs as single verdicts.
Judged by a rule, never by FLR. Beside it random pairs, pairs by the likelihood of the response, pairs by the tuned FLR,
and pairs by the rule (the ceiling).

Choices: at `small` experiments 2 and 3 use a tiny language model of a world of short dialogues (`follow_up_world`), in
which the user's next words say for sure about a flaw only `honest` of the time; at `paper` the same world is learned by
SmolLM2 with LoRA. Experiment 1 reads the first 3 follow-ups of each polarity and category. The margin of mined pairs is
0. All arms of experiment 3 have the same step size, beta and number of updates of as many completions; nothing was
tuned for any of them alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from plaudit.core.intervals import Interval
from plaudit.core.reward import Reward
from plaudit.core.seeds import Seeds
from plaudit.core.statistics import mean_interval
from plaudit.feedback.records import Preference
from plaudit.learn.text.embedding import HashedEncoder, SentenceEncoder
from plaudit.learn.text.evaluation import clustered
from plaudit.learn.text.feedback_training import fit_follow_up
from plaudit.learn.text.follow_ups import FollowUps, category_scores
from plaudit.learn.text.followup import FollowUpReward
from plaudit.learn.text.models import smollm2, tiny_llama
from plaudit.optimize.align import AlignConfig, CausalPolicy, Pairs, mined_from
from plaudit.optimize.align.updates import Batch, make_update
from plaudit.specify.text.functions import text_reward
from plaudit.zoo import follow_up_world as world
from plaudit.zoo.contract import Arm, Criterion, Outcome, System, ZooResult
from plaudit.zoo.follow_up_drawing import draw
from plaudit.zoo.follow_up_pairs import KINDS, RealPair, make_pairs

if TYPE_CHECKING:
    from plaudit.zoo.lab import Lab

FLR, POSITIVE, NEGATIVE = "FLR", "satisfied alone", "dissatisfied alone"
RESPONSE, LENGTH, CHANCE, COSINE = "response likelihood", "length", "chance", "MiniLM cosine"
UNTUNED, TEMPLATE = "untuned", "untuned, roles exchanged"
TUNED, AS_USER, SHUFFLED = "tuned, roles exchanged", "tuned as the user", "tuned, feedback shuffled"
BASE, RANDOM, RULE, BY_TUNED = "base", "random pairs", "pairs by the rule", "FLR pairs, tuned"
MINED, BY_RESPONSE, BY_KTO = "FLR pairs", "pairs by response likelihood", "FLR pairs, KTO"
TRUTH = ("relevance", "instruction following")


@dataclass(frozen=True, kw_only=True)
class FollowUpConfig:
    """How large the experiment is."""

    seeds: int = 6
    """Worlds of experiments 2 and 3: their language models, feedback and samples."""
    model: Literal["smollm2", "tiny"] = "smollm2"
    """What experiment 1 reads; tiny is a random model, which proves that it runs."""
    pairs: int = 40
    """Pairs of each kind in experiment 1."""
    each: int = 3
    """Follow-ups of each polarity and category there."""
    learner: Literal["tiny", "smollm2"] = "tiny"
    """What learns in experiments 2 and 3: a tiny model from scratch, or SmolLM2 with LoRA."""
    world_each: int = 2
    """Follow-ups of each polarity and category in the world."""
    dialogues: int = 4000
    """What the base model has seen."""
    pretrain: int = 400
    """Its updates, of 16 dialogues."""
    hidden: int = 64
    """Its width."""
    honest: float = 0.6
    """How often the users of those dialogues say what they think."""
    feedback: int = 2000
    """Rows of feedback that the model is tuned on; they are all honest."""
    tune_steps: int = 100
    """Updates of tuning, of 16 rows."""
    tune_lr: float = 3e-3
    """Step size of tuning."""
    test: int = 60
    """Test pairs of each flaw."""
    prompts: int = 96
    """Prompts that pairs are mined from."""
    samples: int = 4
    """Samples of each."""
    dpo_steps: int = 50
    """Updates of DPO, of 16 pairs; of KTO, of 32 completions."""
    dpo_lr: float = 5e-5
    """Its step size."""
    beta: float = 0.5
    """Its beta."""
    judged: int = 64
    """Samples of each held-out prompt by which a policy is judged."""


# --- experiment 1: real texts ----------------------------------------------------------------------------------


def real(config: FollowUpConfig, seeds: Seeds, *, kinds: Sequence[str], device: str = "cpu") -> dict[str, Any]:
    """For each kind and method 1, 0 or 0.5 (a tie) for each pair."""
    every = make_pairs(config.pairs, seeds.child("pairs").numpy())
    rows = list(dict.fromkeys((p.prompt, text) for k in kinds for p in every[k] for text in (p.better, p.worse)))
    with tempfile.TemporaryDirectory() as folder:
        model = smollm2() if config.model == "smollm2" else tiny_llama(Path(folder) / "tiny", hidden=32)
        reward = FollowUpReward.load(model, follow_ups=FollowUps.load().take(config.each), device=device)
        said = reward.likelihoods([p for p, _ in rows], [t for _, t in rows], responses=True)
    assert said.response_N is not None
    value = {FLR: category_scores(said.mean_NF, reward.follow_ups).mean(-1),
             POSITIVE: category_scores(said.mean_NF, reward.follow_ups, "positive").mean(-1),
             NEGATIVE: category_scores(said.mean_NF, reward.follow_ups, "negative").mean(-1)}
    by_category = category_scores(said.mean_NF, reward.follow_ups)
    value |= {f"FLR, {name}": by_category[:, i] for i, name in enumerate(reward.follow_ups.banks)}
    value |= {RESPONSE: said.response_N, LENGTH: torch.tensor([float(len(t)) for _, t in rows]),
              CHANCE: torch.rand(len(rows), generator=seeds.child("chance", *kinds).torch()),
              COSINE: cosine(config, rows, device=device)}
    at = {row: i for i, row in enumerate(rows)}
    return {kind: {name: _beats(x, at, every[kind]) for name, x in value.items()} for kind in kinds}


def cosine(config: FollowUpConfig, rows: Sequence[tuple[str, str]], *, device: str = "cpu") -> torch.Tensor:
    """How near request and answer are in meaning."""
    encode = SentenceEncoder(device=device) if config.model == "smollm2" else HashedEncoder()
    return (encode([p for p, _ in rows]) * encode([t for _, t in rows])).sum(-1)


def _beats(value: torch.Tensor, at: Mapping[tuple[str, str], int], pairs: Sequence[RealPair]) -> list[float]:
    gaps = [float(value[at[p.prompt, p.better]] - value[at[p.prompt, p.worse]]) for p in pairs]
    return [0.5 if gap == 0 else float(gap > 0) for gap in gaps]


# --- experiments 2 and 3: a world ------------------------------------------------------------------------------


def learned(config: FollowUpConfig, seeds: Seeds, *, seed: int, device: str = "cpu") -> dict[str, Any]:
    """One world: its base model, what tuning changes, and what DPO on mined pairs does."""
    own = seeds.child("world", seed)
    bank = world.follow_ups(config.world_each)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = base_of(config, folder, bank, own, device=device)
        scorers = tuned_of(config, folder, base, bank, own, device=device)
        test = world.held_out_pairs(config.test, own.child("test").numpy())
        return {"accuracy": {name: accuracies(r, test) for name, r in scorers.items()},
                "policies": aligned(config, base, scorers, own, device=device)}


def base_of(config: FollowUpConfig, folder: Path, bank: FollowUps, seeds: Seeds, *, device: str = "cpu") -> Path:
    """A language model that has seen dialogues of the world."""
    if config.learner == "tiny":
        return world.pretrained(folder / "base", bank, seeds.child("base"), dialogues_seen=config.dialogues,
                                steps=config.pretrain, honest=config.honest, hidden=config.hidden, device=device)
    policy = CausalPolicy.load(smollm2(), device=device, lora=16, seed=seeds.integer() % 2**31)
    form = replace(policy.form, as_chat=True)
    rows = world.rows_of(form, bank, config.dialogues, seeds.child("dialogues").numpy(), honest=config.honest)
    world.fit(policy.module, rows, steps=config.pretrain, batch=16, lr=2e-4, rng=seeds.child("batches").numpy())
    return policy.save(folder / "base")


def tuned_of(config: FollowUpConfig, folder: Path, base: Path, bank: FollowUps, seeds: Seeds, *,
             device: str = "cpu") -> dict[str, FollowUpReward]:
    """The untuned model under both templates, and three that were tuned alike."""
    rng = seeds.child("feedback").numpy()
    honest = world.dialogues(config.feedback, bank, rng, honest=1.0)
    order = rng.permutation(len(honest))
    shuffled = [replace(d, feedback=honest[int(i)].feedback) for d, i in zip(honest, order, strict=True)]
    out = {UNTUNED: FollowUpReward.load(base, follow_ups=bank, device=device),
           TEMPLATE: FollowUpReward.load(base, follow_ups=bank, device=device, swapped=True, opening=world.OPENING)}
    where = {"use_cpu": True} if device == "cpu" else {}  # else it takes the accelerator that there is
    for n, (name, rows, swapped) in enumerate(((TUNED, honest, True), (AS_USER, honest, False),
                                               (SHUFFLED, shuffled, True))):
        out[name] = fit_follow_up(rows, model=base, out=folder / f"tuned-{n}", swapped=swapped, opening=world.OPENING,
                                  follow_ups=bank, validation=0.0, batch=16, lr=config.tune_lr, evaluations=1,
                                  lora=config.learner == "smollm2", seed=seeds.integer() % 2**31,
                                  epochs=config.tune_steps * 16 / len(rows), arguments=where).reward(device=device)
    return out


def accuracies(reward: FollowUpReward, test: Sequence[Preference]) -> dict[str, float]:
    """How often the answer without a flaw has more, by flaw."""
    value = [reward.score_texts([p.context for p in test], [str(p.options[k]) for p in test]) for k in (0, 1)]
    gap = (value[0] - value[1]).numpy()
    right = np.where(gap == 0, 0.5, gap > 0)
    kinds = [p.provenance["category"] for p in test]
    return {name: float(np.mean([r for r, k in zip(right, kinds, strict=True) if k == name]))
            for name in world.CATEGORIES}


def aligned(config: FollowUpConfig, base: Path, scorers: Mapping[str, FollowUpReward],
            seeds: Seeds, *, device: str = "cpu") -> dict[str, dict[str, float]]:
    """DPO (once KTO) on pairs by different rewards from the same samples; what the rule says of fresh samples."""
    lora = 8 if config.learner == "smollm2" else None
    policy = CausalPolicy.load(base, max_tokens=14, device=device, as_chat=True, lora=lora,
                               seed=seeds.integer() % 2**31)
    asks = world.requests()
    prompts = [asks[i % len(asks)].text for i in range(config.prompts)]
    samples = policy.sample(prompts, n=config.samples, seed=seeds.child("samples"))
    drawn = torch.rand(samples.B, generator=seeds.child("random").torch()).to(device)
    rewards: dict[str, Reward] = {MINED: scorers[UNTUNED], BY_KTO: scorers[UNTUNED], BY_TUNED: scorers[TUNED],
                                  RULE: rule, RANDOM: _Fixed(drawn, RANDOM)}
    said = policy.log_probs(samples).detach().sum(-1) / samples.lengths
    rewards[BY_RESPONSE] = _Fixed(said, BY_RESPONSE)
    start = {k: v.clone() for k, v in policy.state_dict().items()}
    reference = policy.reference()
    out = {BASE: judged(config, policy, reference, seeds)}
    for name, reward in rewards.items():
        policy.load_state_dict(start)
        mined = mined_from(samples, reward)
        learn_from(config, policy, reference, mined.pairs, seeds.child("dpo"), algo="kto" if name == BY_KTO else "dpo")
        out[name] = judged(config, policy, reference, seeds) | {"pairs": float(len(mined.pairs))}
    return out


def learn_from(config: FollowUpConfig, policy: CausalPolicy, reference: Any, pairs: Pairs, seeds: Seeds, *,
               algo: Literal["dpo", "kto"]) -> None:
    """Offline: nothing is sampled while it learns."""
    update = make_update(algo, policy, reference, AlignConfig(prompts=16, samples=2), prompts=(), seeds=seeds,
                         pairs=pairs)
    batch = Batch.unsampled(pairs, beta=config.beta, lr=config.dpo_lr)
    for step in range(config.dpo_steps):
        update(batch, seeds.child("step", step))


@torch.no_grad()
def judged(config: FollowUpConfig, policy: CausalPolicy, reference: Any, seeds: Seeds) -> dict[str, float]:
    """Held-out prompts: how many answers have no flaw, how many have each, and how far the policy has moved."""
    tokens = policy.sample([r.text for r in world.requests(held_out=True)], n=config.judged, seed=seeds.child("judge"))
    flaws = [world.flaws_of(ASKED[p], c) for p, c in zip(tokens.columns["prompt"], tokens.columns["completion"],
                                                        strict=True)]
    kl = (policy.log_probs(tokens) - reference.log_probs(tokens)).sum(-1)
    return {"flawless": float(np.mean([not f for f in flaws])), "kl": float(kl.mean()),
            **{f"no flaw in {c}": float(np.mean([c not in f for f in flaws])) for c in world.CATEGORIES}}


ASKED = {r.text: r for r in (*world.requests(), *world.requests(held_out=True))}


@text_reward
def rule(prompt_text: str, completion_text: str) -> float:
    """Minus the number of flaws."""
    return -float(len(world.flaws_of(ASKED[prompt_text], completion_text)))


class _Fixed(Reward):
    """Numbers of given rows, paid at the end."""

    def __init__(self, value_B: torch.Tensor, name: str) -> None:
        self.value_B, self.name = value_B, name

    def evaluate(self, episodes: Any) -> Any:
        from plaudit.core.score import Score

        last = torch.nn.functional.one_hot(episodes.last, episodes.T).bool()
        return Score.of(torch.where(last, self.value_B.float()[:, None], 0.0), mask=episodes.mask)


# --- together --------------------------------------------------------------------------------------------------


def run(config: FollowUpConfig, lab: Lab) -> Outcome:
    """All three experiments."""
    groups = {"real texts, answers": ["relevance", "informativeness"], "real texts, facts": ["correctness"],
              "real texts, orders": ["following"]}
    lab.plan(len(groups) + config.seeds)
    found: dict[str, dict[str, list[float]]] = {}
    for part in lab.units(real, {name: {"kinds": kinds} for name, kinds in groups.items()}):
        found |= part
    worlds = lab.units(learned, {f"world {s}": {"seed": s} for s in range(config.seeds)})
    arms, criteria = _of_real(found)
    more, judged_ = _of_worlds(worlds)
    return Outcome(arms=[*arms, *more], criteria=[*criteria, *judged_],
                   data={"kl": {n: [w["policies"][n]["kl"] for w in worlds] for n in worlds[0]["policies"]},
                         "pairs": {n: [w["policies"][n].get("pairs", 0.0) for w in worlds]
                                   for n in worlds[0]["policies"]}})


def _of_real(found: Mapping[str, Mapping[str, list[float]]]) -> tuple[list[Arm], list[Criterion]]:
    def over(name: str, kinds: Sequence[str]) -> Interval:
        right = {f"{kind} {i}": x for kind in kinds for i, x in enumerate(found[kind][name])}
        return clustered(list(right.values()), list(right))

    arms = [Arm(name=name, metric=f"accuracy, {metric}", value=over(name, kinds), baseline=not name.startswith("FLR"))
            for name in found[KINDS[0]] for metric, kinds in (*((k, (k,)) for k in KINDS), ("all kinds", KINDS))]

    def gap(a: str, b: str) -> Interval:
        return mean_interval([x - y for k in KINDS for x, y in zip(found[k][a], found[k][b], strict=True)])

    criteria = [Criterion(says=f"SmolLM2, FLR, accuracy on {kind}", value=over(FLR, (kind,)), above=0.5)
                for kind in ("relevance", "informativeness")]
    criteria += [Criterion(says=f"SmolLM2, accuracy over all kinds: FLR less {other}", value=gap(FLR, other), above=0.0)
                 for other in (POSITIVE, RESPONSE)]
    return arms, criteria


def _of_worlds(worlds: Sequence[Mapping[str, Any]]) -> tuple[list[Arm], list[Criterion]]:
    def accuracy(name: str, kinds: Sequence[str]) -> np.ndarray:
        return np.array([[w["accuracy"][name][k] for k in kinds] for w in worlds]).mean(1)

    def share(name: str, what: str = "flawless") -> np.ndarray:
        return np.array([w["policies"][name][what] for w in worlds])

    arms = [Arm(name=name, metric=f"world: accuracy, {metric}", value=mean_interval(accuracy(name, kinds)),
                baseline=name != TUNED)
            for metric, kinds in (("relevance and following", TRUTH), *((k, (k,)) for k in world.CATEGORIES))
            for name in worlds[0]["accuracy"]]
    arms += [Arm(name=name, metric=f"policy: {what}", value=mean_interval(share(name, what)),
                 baseline=name not in (MINED, BY_KTO, BY_TUNED))
             for what in ("flawless", *(f"no flaw in {c}" for c in world.CATEGORIES), "kl")
             for name in worlds[0]["policies"]]
    less = lambda a, b: mean_interval(accuracy(a, TRUTH) - accuracy(b, TRUTH))  # noqa: E731
    criteria = [
        Criterion(says=f"Tuning: accuracy on relevance and following, {TUNED} less {UNTUNED}",
                  value=less(TUNED, UNTUNED), above=0.05),
        Criterion(says=f"Tuning: {TUNED} less {SHUFFLED}", value=less(TUNED, SHUFFLED), above=0.0),
        Criterion(says=f"DPO: share of answers without a flaw, {MINED} less {BASE}",
                  value=mean_interval(share(MINED) - share(BASE)), above=0.0),
        Criterion(says=f"DPO: {MINED} less {RANDOM}", value=mean_interval(share(MINED) - share(RANDOM)), above=0.0),
        Criterion(says=f"DPO: {MINED} less {BY_RESPONSE}", value=mean_interval(share(MINED) - share(BY_RESPONSE)),
                  above=0.0)]
    return arms, criteria


def picture(result: ZooResult) -> Any:
    """The three experiments."""
    return draw(result, kinds=KINDS, methods=(FLR, POSITIVE, NEGATIVE, RESPONSE, COSINE, LENGTH, CHANCE),
                scorers=(UNTUNED, TEMPLATE, TUNED, AS_USER, SHUFFLED), policies=(BASE, MINED, BY_KTO, BY_TUNED,
                                                                                BY_RESPONSE, RANDOM, RULE))


SYSTEM = System(
    number=13, name="flr", title="FLR: follow-up likelihood as reward", room="learn",
    claim="How much likelier a response makes satisfied follow-ups than dissatisfied ones, under an untrained language "
          "model, ranks responses well above chance and better than satisfied follow-ups alone; tuning on feedback in "
          "words makes it better; and DPO on pairs that it mines improves the policy.",
    scales={"smoke": FollowUpConfig(seeds=1, model="tiny", pairs=2, each=1, world_each=1, dialogues=60, pretrain=3,
                                    hidden=32, feedback=32, tune_steps=2, test=2, prompts=18, samples=3, dpo_steps=1,
                                    judged=2),
            "small": FollowUpConfig(),
            "paper": FollowUpConfig(seeds=6, pairs=150, each=10, learner="smollm2", world_each=10, dialogues=8000,
                                    pretrain=1000, tune_steps=500, tune_lr=2e-4, prompts=400, samples=8, dpo_steps=200,
                                    dpo_lr=2e-5)},
    run=run, draw=picture, any_device=True)
