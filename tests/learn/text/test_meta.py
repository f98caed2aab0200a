"""MetaRM on reward models of texts, and contrast between two passes of a model that drops out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.learn.text import modelling, objectives
from plaudit.learn.text.evidence import evidence
from plaudit.learn.text.examples import Example, collate
from plaudit.learn.text.heads import Head, HeadSpec
from plaudit.learn.text.modelling import Lora, RewardModel
from plaudit.learn.text.objectives import Outputs, objective
from plaudit.learn.text.procedures import ascended
from plaudit.learn.text.trainer import Meta


def example(row: int, states: list[list[float]], label: float | None = None) -> Example:
    options = tuple(f"text {i}" for i in range(len(states)))
    record = Preference(options=options, label=label) if label is not None else \
        Preference(options=options, correct=(False,) * len(options))
    return Example(row, record, tuple((1,) for _ in options), row, states=torch.tensor(states))


def collator(some):
    return collate(some, lambda *_: pytest.fail("states are known"))


def sigma(v: float) -> float:
    return 1 / (1 + math.exp(-v))


@pytest.mark.parametrize("eta", [0.5, 0.0, -0.5])
def test_a_step_is_taken_with_the_gradient_at_the_ascended_weights(eta: float) -> None:
    """theta - alpha grad L(theta + eta grad J), by hand, for a linear head on known states."""
    w, d, g, alpha = (0.4, -0.3), (1.2, 0.5), (0.7, -1.1), 0.1
    model = RewardModel(None, Head(2, HeadSpec()))
    with torch.no_grad():
        model.head.layer.weight.copy_(torch.tensor([w]))
    sgd = torch.optim.SGD(model.parameters(), lr=alpha)
    meta = Meta([example(0, [list(d), [0.0, 0.0]])], step_size=eta, batch=1)
    with ascended(model, meta, collator, step=0, seed=0):
        loss, _ = objective("bradley-terry")(model(batch := collator([example(1, [list(g), [0.0, 0.0]], 1.0)])),
                                             batch.evidence)
        sgd.zero_grad()
        loss.backward()
    sgd.step()
    u = w[0] * d[0] + w[1] * d[1]
    slope = 0.5 * sigma(abs(u)) * (1 - sigma(abs(u))) * math.copysign(1, u)
    moved = [w[i] + eta * slope * d[i] for i in range(2)]
    v = moved[0] * g[0] + moved[1] * g[1]
    hand = [w[i] + alpha * (1 - sigma(v)) * g[i] for i in range(2)]
    assert model.head.layer.weight.detach()[0].tolist() == pytest.approx(hand, abs=1e-6)


def test_one_sample_of_a_prompt_is_refused() -> None:
    model = RewardModel(None, Head(2, HeadSpec()))
    alone = Example(0, Preference(options=("a",), ratings=({"x": 1.0},)), ((1,),), 0, states=torch.zeros(1, 2))
    with pytest.raises(BadInput, match="at least 2 of each prompt"), \
            ascended(model, Meta([alone], batch=1), collator, step=0, seed=0):
        pass


# --- two passes ------------------------------------------------------------------------------------------


def test_contrast_is_between_two_passes_where_the_model_drops_out(tiny_llama) -> None:
    spec = HeadSpec()
    made = {name: modelling.make(tiny_llama, spec, seed=0, twice=True, lora=lora)
            for name, lora in (("plain", None), ("adapters", Lora(rank=2, dropout=0.5)))}
    assert not made["plain"].twice, "nothing drops out: a second pass would give the same states"
    model = made["adapters"]
    assert model.twice
    for name, p in model.backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    from plaudit.learn.text.forward import prepare

    encoder = prepare(model.backbone.get_base_model(), max_length=64, pad_id=0, packing=False)
    rows = [Example(i, Preference(options=("a", "b"), label=1.0), ((5, 6 + i), (5, 9 + i)), i) for i in range(3)]
    batch = collate(rows, encoder)
    model.train()
    out = model(batch)
    assert out.again_NOD is not None and not torch.allclose(out.again_NOD, out.hidden_NOD)
    assert model.say(batch).again_NOD is None, "scoring reads once"


@pytest.mark.parametrize("name", ["contrastive", "contrastive-diff", "contrastive-swav", "contrastive-swav-diff"])
def test_the_second_pass_is_what_is_compared_with(name: str) -> None:
    said = evidence([Preference(options=("a", "b"), label=1.0)] * 6)
    g = torch.Generator().manual_seed(0)
    h = torch.randn(6, 2, 8, generator=g)
    none = torch.zeros(6, 2, 1)
    out = Outputs(none, none, h, again_NOD=h, prototype_ZD=torch.randn(4, 8, generator=g))
    shuffled = replace(out, again_NOD=h.roll(1, 0))
    parts = objectives.OBJECTIVES[name].parts
    same, other = (float(parts(o, said)[0].sum()) for o in (out, shuffled))
    assert same < other, "a text is nearer to itself than to its neighbour"
