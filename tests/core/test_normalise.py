from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.core.checkpoint import load_state, save_state
from plaudit.core.errors import BadInput
from plaudit.core.normalise import RunningMoments


def batches(seed: int, P: int, D: int, sizes: list[int], *, offset: float = 0.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-3, 3, D, dtype=torch.float64)
    return [torch.randn(P, n, D, generator=generator, dtype=torch.float64) * spread + offset for n in sizes]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 3), st.sampled_from([0.0, 5.0, -1e6]))
def test_merging_batches_equals_two_passes_over_all(sizes: list[int], P: int, offset: float) -> None:
    parts = batches(1, P, 4, sizes, offset=offset)
    moments = RunningMoments(4, population=P)
    for part in parts:
        moments.update(part)
    everything = torch.cat(parts, 1).numpy()
    assert (moments.count == sum(sizes)).all()
    if sum(sizes):
        mean, var = everything.mean(1), everything.var(1)
        rounding = 1e-14 * abs(offset)  # of sums of float64
        assert np.allclose(moments.mean.numpy(), mean, rtol=1e-10, atol=1e-10)
        assert np.allclose(moments.var.numpy(), var, rtol=1e-10, atol=1e-10 + rounding)


def test_the_naive_sum_of_squares_would_fail_where_the_merge_does_not() -> None:
    x = torch.randn(1, 10_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e8
    moments = RunningMoments(1)
    for part in x.split(100, 1):
        moments.update(part)
    truth = float(x.var(correction=0))
    naive = float((x**2).mean() - x.mean() ** 2)
    assert float(moments.var) == pytest.approx(truth, rel=1e-8)
    assert abs(naive - truth) > 0.1


def test_each_member_has_the_statistics_of_a_run_of_its_own() -> None:
    together, alone = RunningMoments(3, population=4), [RunningMoments(3) for _ in range(4)]
    for part in batches(2, 4, 3, [5, 1, 17], offset=2.0):
        together.update(part)
        for p in range(4):
            alone[p].update(part[p : p + 1])
    x = torch.randn(4, 6, 3, dtype=torch.float64)
    for p in range(4):
        assert torch.allclose(together.mean[p], alone[p].mean[0], rtol=1e-14)
        assert torch.allclose(together.var[p], alone[p].var[0], rtol=1e-13)
        assert torch.allclose(together.normalise(x)[p : p + 1], alone[p].normalise(x[p : p + 1]), rtol=1e-12)
        assert torch.equal(together.member(p).normalise(x[p : p + 1]), together.normalise(x)[p : p + 1])


def test_masked_and_non_finite_samples_do_not_count() -> None:
    x = torch.tensor([[[1.0, 1.0], [3.0, math.nan], [100.0, 100.0]], [[2.0, math.inf], [7.0, 7.0], [4.0, 4.0]]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    moments = RunningMoments(2, population=2)
    moments.update(x, mask=mask)
    assert moments.count.tolist() == [[2, 1], [2, 1]]
    assert moments.mean.tolist() == [[2.0, 1.0], [3.0, 4.0]]
    assert moments.var.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert math.isnan(moments.normalise(x)[0, 1, 1])


def test_normalised_data_have_mean_zero_and_variance_one_and_come_back() -> None:
    (x,) = batches(3, 2, 3, [5000], offset=7.0)
    moments = RunningMoments(3, population=2)
    moments.update(x)
    z = moments.normalise(x)
    assert torch.allclose(z.mean(1), torch.zeros(2, 3, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(z.std(1, correction=0), torch.ones(2, 3, dtype=torch.float64), rtol=1e-10)
    assert torch.allclose(moments.denormalise(z), x, rtol=1e-9)
    moments.clip = math.inf
    signed = moments.normalise(x, centre=False)
    assert (signed.sign() == x.sign()).all() and torch.allclose(moments.denormalise(signed, centre=False), x, rtol=1e-9)


def test_a_nearly_constant_feature_does_not_explode() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1000, 4, generator=generator)
    x = torch.stack([torch.full((1, 1000), 1000.0).nextafter(torch.tensor(math.inf)) * (1 + 3e-8 * noise[..., 0]),
                     torch.zeros(1, 1000), 1e-17 * noise[..., 2], noise[..., 3]], -1)
    moments = RunningMoments(4, clip=math.inf)
    moments.update(x)
    assert (moments.normalise(x)[..., :3].abs() < 1e-3).all()
    moved = moments.normalise(x[:, 0] + torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert torch.allclose(moved[0, :3], torch.ones(3), atol=1e-3)
    plain = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-8)  # what a fixed epsilon would give
    assert plain[..., 0].abs().max() > 1


def test_small_units_are_still_normalised() -> None:
    x = 1e-6 * torch.randn(1, 500, 1, generator=torch.Generator().manual_seed(0))
    moments = RunningMoments(1)
    moments.update(x)
    assert float(moments.normalise(x).std()) == pytest.approx(1.0, rel=1e-2)


def test_a_rare_jump_is_limited_to_the_clip() -> None:
    moments = RunningMoments((), population=2, clip=5.0)
    moments.update(0.01 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)))
    assert moments.normalise(torch.tensor([1e6, -1e6])).tolist() == [5.0, -5.0]


def test_frozen_statistics_stay() -> None:
    moments = RunningMoments(1)
    moments.update(torch.ones(1, 3, 1))
    moments.freeze()
    moments.update(torch.zeros(1, 3, 1))
    moments.merge(moments.member(0))
    assert float(moments.mean) == 1.0 and float(moments.count) == 3


def test_workers_can_be_merged() -> None:
    parts = batches(4, 2, 3, [10, 30])
    workers = [RunningMoments(3, population=2) for _ in parts]
    together = RunningMoments(3, population=2)
    for worker, part in zip(workers, parts, strict=True):
        worker.update(part)
        together.update(part)
    workers[0].merge(workers[1])
    assert torch.allclose(workers[0].mean, together.mean) and torch.allclose(workers[0].var, together.var)


def test_before_any_sample_normalising_changes_nothing() -> None:
    x = torch.randn(1, 4, 2)
    assert torch.equal(RunningMoments(2).normalise(x), x)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 1)], ids=str)
def test_samples_of_any_shape_with_any_axes_between(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 5, 7, *shape, dtype=torch.float64)
    moments = RunningMoments(shape, population=2)
    moments.update(x)
    assert torch.allclose(moments.mean, x.mean((1, 2))) and moments.normalise(x).shape == x.shape
    moments.update(x[:, 0, 0])
    assert (moments.count == 36).all()
    assert moments.normalise(x.float()).dtype == moments.normalise((9 * x).to(torch.int32)).dtype == torch.float32


def test_restored_statistics_go_on_bit_for_bit(tmp_path: Path) -> None:
    parts = batches(5, 2, 3, [4, 9, 2])
    one, other = RunningMoments(3, population=2), RunningMoments(3, population=2)
    one.update(parts[0])
    save_state(tmp_path, one.state_dict())
    other.load_state_dict(load_state(tmp_path))
    for part in parts[1:]:
        one.update(part)
        other.update(part)
    assert all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("count", "mean", "m2"))
    one.freeze()
    other.load_state_dict(one.state_dict())
    assert other.frozen


def test_a_saved_state_does_not_move_with_the_statistics() -> None:
    moments = RunningMoments(1)
    state = moments.state_dict()
    moments.update(torch.ones(1, 3, 1))
    assert float(state["mean"]) == 0.0


@pytest.mark.parametrize("call", [
    lambda: RunningMoments(3, population=0), lambda: RunningMoments(3, clip=0.0),
    lambda: RunningMoments(3, relative=-1.0), lambda: RunningMoments(3).update(torch.zeros(2, 4, 3)),
    lambda: RunningMoments(3).update(torch.zeros(1, 4, 2)), lambda: RunningMoments(3).update(torch.zeros(3)),
    lambda: RunningMoments(3).update(torch.zeros(1, 4, 3), mask=torch.ones(1, 3).bool()),
    lambda: RunningMoments(3).normalise(torch.zeros(4, 3)), lambda: RunningMoments(3).member(1),
    lambda: RunningMoments(3).merge(RunningMoments(2)), lambda: RunningMoments(3).load_state_dict({}),
    lambda: RunningMoments(3).load_state_dict(RunningMoments(3, population=2).state_dict()),
])
def test_what_does_not_fit_is_refused(call: Any) -> None:
    with pytest.raises(BadInput):
        call()
