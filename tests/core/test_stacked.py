"""How the weights of stacked networks begin."""

from __future__ import annotations

import math

import pytest
import torch

from plaudit.core.seeds import Seeds
from plaudit.core.stacked import PopulationMLP

SIZES = (32, 64, 64, 3)


def made(**options) -> dict[str, torch.Tensor]:
    seeds = [Seeds(p).torch() for p in range(40)]
    return {name: value.detach() for name, value in PopulationMLP(SIZES, generators=seeds, **options).named().items()}


def test_orthogonal_layers_keep_lengths_but_for_their_gain():
    parts = made(output_gain=0.01)
    for i, gain in enumerate((math.sqrt(2), math.sqrt(2), 0.01)):
        weight = parts[f"weight_{i}"]
        short = weight if weight.shape[1] <= weight.shape[2] else weight.transpose(1, 2)
        gram = short @ short.transpose(1, 2)
        assert torch.allclose(gram, gain**2 * torch.eye(gram.shape[-1]).expand_as(gram), atol=1e-5)
        assert not parts[f"bias_{i}"].any()


def test_uniform_layers_are_those_of_torch():
    parts = made(initialisation="uniform", output_gain=0.01)
    for i, (inner, outer) in enumerate(zip(SIZES, SIZES[1:], strict=False)):
        torch.manual_seed(i)
        theirs = [torch.nn.Linear(inner, outer) for _ in range(40)]
        for name, their in (("weight", [m.weight for m in theirs]), ("bias", [m.bias for m in theirs])):
            mine, other = parts[f"{name}_{i}"], torch.stack(list(their)).detach()
            assert float(mine.abs().max()) <= inner**-0.5
            assert float(mine.std()) == pytest.approx(float(other.std()), rel=0.1)
            assert abs(float(mine.mean())) < 0.1 * inner**-0.5


def test_a_member_begins_the_same_alone():
    alone = PopulationMLP(SIZES, generators=[Seeds(3).torch()], initialisation="uniform").flat
    many = PopulationMLP(SIZES, generators=[Seeds(p).torch() for p in range(5)], initialisation="uniform").flat
    assert torch.equal(alone[0], many[3])
