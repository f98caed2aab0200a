"""The reward models of the review world: of named features and of sentence embeddings, fitted and tuned alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.feedback.records import Preference
from plaudit.learn.text.embedding import Encoder, HashedEncoder, SentenceEncoder
from plaudit.learn.text.feature_heads import FeatureHead, HeadOptions, PairTable, fit_head, fixed_head
from plaudit.learn.text.feature_reports import sign_weights
from plaudit.learn.text.feature_reward import FeatureReward, Running
from plaudit.learn.text.feature_scaling import Scaling
from plaudit.learn.text.features import Better, FeatureSet
from plaudit.specify.text.reading import at_the_end
from plaudit.zoo.review_features import MAIN, feature_set
from plaudit.zoo.review_world import Product, Writer, make_products, worth

if TYPE_CHECKING:
    from plaudit.zoo.domain_feature_rm import FeatureRmConfig

WITHOUT = ", without the main two"
MLP, LINEAR, MEAN, LOOSE = "features, MLP", "features, linear", "features, mean", "features, MLP unregularised"
TEXT, TEXT_LINEAR, LORA = "embeddings, MLP", "embeddings, linear", "language model, LoRA"


@dataclass(frozen=True, eq=False)
class Pool:
    """Summaries of all products by the writer who imitates: N of each, the products of the test behind."""

    products: list[Product]
    prompts: list[str]
    texts: list[str]
    choices: list[list[int]]
    worth_PN: Float[Tensor, "P N"]
    raw_BD: Float[Tensor, "B D"]
    """Named features."""
    embedded: Embedded

    @property
    def N(self) -> int:
        """Summaries of a product."""
        return self.worth_PN.shape[1]


class Embedded:
    """What a text model reads: the summary's embedding, its product and its distance with that of the reviews.

    Their principal axes over the texts of the pool, in one common unit, so that few pairs are not lost in many columns.
    """

    def __init__(self, encode: Encoder, prompts: Sequence[str], texts: Sequence[str], *, dims: int) -> None:
        self.encode = encode
        both = self._both(prompts, texts)
        self.mean = both.mean(0)
        centred = both - self.mean
        self.axes = torch.linalg.eigh(centred.T.double() @ centred.double()).eigenvectors[:, -dims:].float()
        self.unit = float((centred @ self.axes).std(0).mean())

    def _both(self, prompts: Sequence[str], texts: Sequence[str]) -> Float[Tensor, "B E"]:
        asked, said = self.encode(list(prompts)), self.encode(list(texts))
        return torch.cat([said, asked * said * said.shape[1] ** 0.5, (asked - said).abs()], 1)

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Float[Tensor, "B C"]:
        return (self._both(prompts, texts) - self.mean) @ self.axes / self.unit


@lru_cache(maxsize=2)
def encoder_of(name: str, device: str = "cpu") -> Encoder:
    """The encoder of a name; what it has encoded stays known to the seeds that follow."""
    return SentenceEncoder(device=device) if name == "minilm" else HashedEncoder()


@lru_cache(maxsize=1)
def make_pool(config: FeatureRmConfig, seeds: Seeds, device: str = "cpu") -> Pool:
    """The texts of all seeds, read on the host."""
    products = make_products(config.products + config.test_products, seeds.child("products").numpy())
    writer = Writer(products, device=device)
    tokens = writer.sample([p.text for p in products], n=config.summaries, seed=seeds.child("summaries"))
    prompts, texts = list(tokens.columns["prompt"]), list(tokens.columns["completion"])
    choices = tokens.action.tolist()
    gold = torch.tensor([worth(products[b // config.summaries], c) for b, c in enumerate(choices)])
    return Pool(products, prompts, texts, choices, gold.view(len(products), -1),
                feature_set().read(prompts, texts).value_BD,
                Embedded(encoder_of(config.encoder, device), prompts, texts, dims=config.dims))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of the pool that were compared, and what an annotator said."""

    row_N2: Int[Tensor, "N 2"]
    label_N: Float[Tensor, "N"]
    family: list[int]

    def table(self, x_BC: Float[Tensor, "B C"]) -> PairTable:
        """What a model is fitted to."""
        return PairTable.of(x_BC[self.row_N2], self.label_N, self.family)

    def first(self, n: int) -> Pairs:
        """The first n."""
        return Pairs(self.row_N2[:n], self.label_N[:n], self.family[:n])

    def records(self, pool: Pool) -> list[Preference]:
        """As preferences over texts."""
        return [Preference(context=pool.prompts[i], options=(pool.texts[i], pool.texts[j]), label=float(label))
                for (i, j), label in zip(self.row_N2.tolist(), self.label_N.tolist(), strict=True)]


def annotated(config: FeatureRmConfig, pool: Pool, n: int, seeds: Seeds) -> Pairs:
    """Pairs of different summaries of a training product, judged with Gumbel noise; some labels are turned round."""
    rng = seeds.numpy()
    rows: list[list[int]] = []
    while len(rows) < n:
        product = int(rng.integers(config.products))
        i, j = (product * pool.N + int(k) for k in rng.choice(pool.N, 2, replace=False))
        if pool.texts[i] != pool.texts[j]:
            rows.append([i, j])
    row = torch.tensor(rows)
    felt = pool.worth_PN.flatten()[row].numpy() + rng.gumbel(0, config.annotator_noise, (n, 2))
    label = torch.from_numpy((felt[:, 0] > felt[:, 1]) != (rng.random(n) < config.flips)).float()
    return Pairs(row, label, [i // pool.N for i in row[:, 0].tolist()])


def exam_pairs(config: FeatureRmConfig, pool: Pool) -> tuple[Int[Tensor, "M 2"], Tensor]:
    """All pairs of summaries of the test products whose worth differs, and which is better."""
    i, j = torch.triu_indices(pool.N, pool.N, 1)
    start = torch.arange(config.products, len(pool.products)).unsqueeze(1) * pool.N
    row = torch.stack([(start + i).flatten(), (start + j).flatten()], 1)
    gap = pool.worth_PN.flatten()[row[:, 0]] - pool.worth_PN.flatten()[row[:, 1]]
    apart = gap.abs() > 1e-6
    return row[apart], gap[apart] > 0


# --- fitting ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted head with how it reads the pool."""

    head: FeatureHead
    x_BC: Float[Tensor, "B C"]
    scaling: Scaling | None = None

    def accuracy(self, row_M2: Int[Tensor, "M 2"], better: Tensor) -> float:
        """The share of pairs that it orders as their worth does."""
        value = self.head(self.x_BC)
        gap = value[row_M2[:, 0]] - value[row_M2[:, 1]]
        return float(((gap > 0) == better).double().mean())


def options_of(config: FeatureRmConfig, *, linear: bool = False, loose: bool = False) -> HeadOptions:
    """The same decays, folds and updates for all; `loose` takes away what keeps a perceptron from few pairs."""
    how = HeadOptions(steps=config.steps, folds=config.folds, hidden=() if linear else (config.hidden,))
    return replace(how, decays=(0.0,), early=False, start=1.0, folds=2) if loose else how


def fit_model(config: FeatureRmConfig, pool: Pool, name: str, pairs: Pairs, seeds: Seeds, *,
              device: str = "cpu") -> Model:
    """One arm."""
    if name in (TEXT, TEXT_LINEAR):
        x = pool.embedded(pool.prompts, pool.texts)
        how = options_of(config, linear=name == TEXT_LINEAR)
        return Model(fit_head(pairs.table(x).to(device), options=how, seed=seeds), x)
    features, raw = feature_set(), pool.raw_BD
    if name.endswith(WITHOUT):
        left = features.without(*MAIN)
        raw = raw[:, [features.names.index(n) for n in left.names]]
        features = left
    scaling = Scaling.of(raw[pairs.row_N2.flatten().unique()], features.names)
    x = scaling(raw).x_BC
    if name == MEAN:
        declared: dict[str, Better] = {f.name: f.better for f in features}
        return Model(fixed_head(sign_weights(scaling, declared, pairs.table(x)).to(device)), x, scaling)
    how = options_of(config, linear=name.startswith(LINEAR), loose=name == LOOSE)
    return Model(fit_head(pairs.table(x).to(device), options=how, seed=seeds), x, scaling)


# --- as rewards ---------------------------------------------------------------------------------------------------


class OfTexts(Reward):
    """A number of texts, paid at the last token.

    Args:
        fn: Prompts and completions to numbers.
        name: Its name.
    """

    needs = Needs(time="episode")

    def __init__(self, fn: Callable[[list[str], list[str]], Tensor], name: str) -> None:
        self.fn, self.name = fn, name

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens):
            raise BadInput("episodes", expected="summaries as Tokens", received=type(episodes).__name__)
        said = self.fn(list(episodes.columns["prompt"]), list(episodes.columns["completion"]))
        return Score.of(at_the_end(said.to(episodes.device), episodes), mask=episodes.mask)


def text_reward_of(pool: Pool, model: Model) -> Reward:
    """The embedding model, in units of its spread over the pool."""
    head = model.head.standardise(model.x_BC)
    return OfTexts(lambda prompts, texts: head(pool.embedded(prompts, texts)), "embeddings")


def feature_reward_of(model: Model, features: FeatureSet | None = None) -> FeatureReward:
    """The feature model as a user has it."""
    assert model.scaling is not None
    return FeatureReward(features or feature_set(), model.scaling, {"mlp": model.head.standardise(model.x_BC)},
                         running=Running(time_limit_s=None))


def language_model(config: FeatureRmConfig, pool: Pool, pairs: Pairs, seeds: Seeds, *, seed: int,
                   device: str = "cpu") -> list[float]:
    """Pair accuracy of SmolLM2-135M with adapters, trained on as many pairs as each entry of `lora_pairs` says."""
    import tempfile

    from plaudit.learn.text.modelling import Lora
    from plaudit.learn.text.models import smollm2
    from plaudit.learn.text.training import fit_text

    row, better = exam_pairs(config, pool)
    used = torch.from_numpy(np.sort(seeds.child("lora").numpy().choice(len(row), min(1000, len(row)), replace=False)))
    row, better = row[used], better[used]
    some = row.unique().tolist()
    out: list[float] = []
    where = {"use_cpu": True} if device == "cpu" else {}  # else it takes the accelerator that there is
    for n in config.lora_pairs:
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {"loss": "bradley-terry", "lora": Lora(rank=8, alpha=16), "epochs": 2.0,
                                       "arguments": where}
            fitted = fit_text(pairs.first(n).records(pool), model=smollm2(), out=f"{folder}/rm", seed=seed, **options)
            reward = fitted.reward(device=device)
            said = reward.score_texts([pool.prompts[i] for i in some], [pool.texts[i] for i in some])
        value = dict(zip(some, said.tolist(), strict=True))
        gap = torch.tensor([value[i] - value[j] for i, j in row.tolist()])
        out.append(float(((gap > 0) == better).double().mean()))
    return out
