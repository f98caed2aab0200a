from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from plaudit.core import algebra
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import reward
from plaudit.core.schedules import LagrangeMultiplier, Linear


def batch(B: int = 3, T: int = 5, D: int = 2, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    rows = []
    for b in range(B):
        n = T - b
        path = torch.randn(n + 1, D, generator=g)
        end = torch.zeros(n, dtype=torch.bool)
        end[-1] = b % 2 == 0
        rows.append(Episodes.of_steps(obs=path[:-1], action=torch.randn(n, 1, generator=g), next_obs=path[1:],
                                      terminated=end, truncated=torch.zeros(n, dtype=torch.bool)))
    return Episodes.cat(rows)


@reward(range=(-2, 2))
def progress(obs: Tensor, next_obs: Tensor) -> Tensor:
    return (next_obs[..., 0] - obs[..., 0]).clamp(-2, 2)


@reward
def effort(action: Tensor) -> Tensor:
    return (action**2).sum(-1)


def test_a_weighted_sum_has_the_terms_weights_needs_and_range_of_its_parts() -> None:
    e, combined = batch(), 0.7 * progress + 0.3 * effort.clip(max=1) - 0.5
    score = combined.score(e)
    expected = 0.7 * progress(e) + 0.3 * effort(e).clamp(max=1) - 0.5 * e.mask
    assert torch.allclose(score.value, expected, atol=1e-6)
    assert score.weights["progress"] == pytest.approx(0.7) and score.weights["effort"] == pytest.approx(0.3)
    assert torch.allclose(score.contribution("progress"), 0.7 * progress(e), atol=1e-6)
    assert combined.needs.fields == {"obs", "next_obs", "action"}
    assert combined.range == (-math.inf, pytest.approx(0.7 * 2 + 0.3 - 0.5))


def test_nested_sums_are_flat_and_division_and_negation_work() -> None:
    e = batch()
    combined = -(2 * (progress + effort)) / 4
    assert torch.allclose(combined(e), -(progress(e) + effort(e)) / 2, atol=1e-6)
    assert all(not isinstance(part, algebra.Sum) for part in combined.children())


def test_two_terms_of_one_name_are_kept_apart() -> None:
    a, b = reward(lambda obs: {"x": obs[..., 0]}, name="a"), reward(lambda obs: {"x": 2 * obs[..., 1]}, name="b")
    score = (a + b).score(batch())
    assert set(score.terms) == {"a.x", "b.x"}


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_shaping_telescopes_to_a_function_of_the_ends(discount: float) -> None:
    e = batch()
    potential = reward(lambda obs: 3.0 * obs[..., 0])
    shaped = progress.shaped_by(potential, discount=discount)
    gain = e.returns(shaped(e), discount=discount) - e.returns(progress(e), discount=discount)
    for b in range(e.B):
        n = int(e.lengths[b])
        first, last = 3.0 * e.obs[b, 0, 0], 3.0 * e.next_obs[b, n - 1, 0]
        end = 0.0 if e.terminated[b, n - 1] else discount**n * last
        assert gain[b].item() == pytest.approx(float(end - first), abs=1e-5)


def test_a_potential_that_reads_actions_is_refused_since_it_would_change_the_best_policy() -> None:
    with pytest.raises(Unsupported, match="reads obs alone"):
        progress.shaped_by(lambda action: action[..., 0], discount=0.9)


def test_shaping_that_forgets_the_terminal_is_not_invariant() -> None:
    """The broken variant: keeping the potential at a true terminal leaves a sum that depends on the path's end."""
    e = batch(B=1)
    kept = e.replace(terminated=torch.zeros_like(e.terminated))
    shaping = algebra.PotentialDifference(reward(lambda obs: obs[..., 0]), discount=1.0)
    assert not torch.allclose(shaping(e).sum(), shaping(kept).sum())


def test_the_spread_of_a_sum_is_computed_member_by_member() -> None:
    """Two perfectly opposed ensembles: each is unsure, their sum is certain; marginal stds would not know."""
    e = batch()
    up = algebra.Ensemble([1.0 * progress, 3.0 * progress])
    down = algebra.Ensemble([3.0 * progress, 1.0 * progress])
    score = (up + down).score(e)
    assert float(up.score(e).std.max()) > 0.1
    assert float(score.std.max()) == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(score.value, 4 * progress(e), atol=1e-5)
    returns = up.score(e).member_returns()
    assert torch.allclose(returns[1], 3 * returns[0], atol=1e-4)


def test_ensembles_of_different_sizes_say_so() -> None:
    a, b = algebra.Ensemble([progress, effort]), algebra.Ensemble([progress] * 3)
    score = (a + b).score(batch())
    assert not score.known[score.mask].any() and "different sizes" in next(iter(score.counts()))


def test_streaming_fails_and_names_terms_as_scoring_at_once_does() -> None:
    """The border is the same: what `combine` raises is unknown with its reason, and a nameless value has its term."""
    step = batch().steps(0, 1)
    for whole in (algebra.Ensemble([progress, effort]) + algebra.Ensemble([progress] * 3),
                  algebra.Ensemble([progress, effort])):
        at_once, (streamed, _) = whole.score(step), whole.stream(step, whole.start(3))
        assert streamed.counts() == at_once.counts() and list(streamed.terms) == list(at_once.terms)
        torch.testing.assert_close(streamed.value, at_once.value, equal_nan=True)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_spread_of_a_population_of_ensembles_is_each_ones_own(streamed: bool) -> None:
    """Rows of a pair, of three opinions and of a single one: none is taken for another, and no spread for a known 0."""
    each = [algebra.Ensemble([progress, effort]), algebra.Ensemble([progress, effort, 2 * effort]), progress]
    e = batch(B=4, T=6).replace(member=torch.tensor([0, 1, 2, 0]))
    e = e.steps(0, 1) if streamed else e
    for statistic in (algebra.std, algebra.mean, algebra.worst):
        whole, own = statistic(algebra.PerMember(each)), [statistic(r)(e) for r in each]
        found = whole.stream(e, whole.start(4))[0].value if streamed else whole(e)
        torch.testing.assert_close(found, torch.stack([own[0][0], own[1][1], own[2][2], own[0][3]]))
    assert float(algebra.std(each[0])(e)[0].max()) > 0.1
    two = algebra.PerMember([each[0], algebra.Ensemble([effort, progress])])
    members = two.score(e.replace(member=torch.tensor([0, 1, 1, 0]))).members
    assert members is not None and members.shape[0] == 2


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_other_libraries_are_numbers_in_a_sum() -> None:
    e = batch()
    for number in (np.float32(1.5), np.float64(1.5), torch.tensor(1.5)):
        for made, right in ((progress + number, progress + 1.5), (progress - number, progress - 1.5)):
            torch.testing.assert_close(made(e), right(e))


def test_a_population_of_ensembles_whose_sizes_nobody_meant_is_refused() -> None:
    each = [algebra.Ensemble([progress] * n) for n in (7, 8, 9)]
    score = algebra.PerMember(each).score(batch().replace(member=torch.arange(3)))
    assert not score.known[score.mask].any() and "give them the same size" in next(iter(score.counts()))


@pytest.mark.parametrize(("make", "said"), [
    (lambda: progress * effort, "weight: expected a finite number.* the reward effort; a.gated_by"),
    (lambda: progress * "2", "weight: expected a finite number"),
    (lambda: progress / effort, "divisor: expected a number.* in one function"),
    (lambda: progress / 0, "divisor: expected a number that is not 0"),
    (lambda: progress + None, "reward: expected a Reward, received None"),
    (lambda: progress - "x", "reward: expected a Reward, received str"),
    (lambda: algebra.total([(1.0, progress), (1.0, None)]), "part 1 of sum: expected a Reward, received None"),
    (lambda: algebra.minimum(progress, 0.0), "part 1 of min: expected a Reward, received float"),
    (lambda: algebra.lexicographic([progress, None], resolution=[1, 1]), r"rewards\[1\]: expected a Reward"),
    (lambda: progress(torch.zeros(3, 2)), "episodes: expected Episodes, received Tensor")])
def test_what_is_no_reward_or_no_weight_is_named(make: Any, said: str, unchecked: None) -> None:
    with pytest.raises(BadInput, match=said):
        make()


def test_a_number_of_another_library_is_a_weight_like_any_other(unchecked: None) -> None:
    assert (np.float32(2.0) * progress).weights == (progress * torch.tensor(2.0)).weights == [2.0]  # type: ignore[attr-defined]
    e = batch()
    assert torch.allclose((progress - (lambda action: action[..., 0]))(e), progress(e) - e.action[..., 0])


def test_a_scheduled_weight_moves_and_is_restored() -> None:
    e = batch()
    combined = progress * Linear(1.0, 0.0)
    assert torch.allclose(combined(e), progress(e))
    combined.advance(0.25)
    assert torch.allclose(combined(e), 0.75 * progress(e))
    again = progress * Linear(1.0, 0.0)
    again.load_state_dict(combined.state_dict())
    assert torch.equal(again(e), combined(e))


def test_a_multiplier_grows_while_the_cost_is_over_its_limit() -> None:
    e = batch()
    constrained = algebra.Constrained(progress, effort, limit=0.1, multiplier=LagrangeMultiplier(metric="cost",
                                                                                                 limit=0.1))
    before = constrained.multiplier.value
    for _ in range(5):
        constrained.advance(0.0, {"cost": 1.0})
    assert constrained.multiplier.value > before
    price = constrained.multiplier.value
    expected = progress(e) - price * (effort(e) - 0.1 * e.mask)
    assert torch.allclose(constrained(e), torch.where(e.mask, expected, 0.0), atol=1e-5)


def test_a_constraint_has_one_limit_and_holds_its_cost_below_it() -> None:
    with pytest.raises(BadInput, match="limit: expected the limit of the multiplier, 0.5, received 0.1"):
        algebra.Constrained(progress, effort, limit=0.1, multiplier=LagrangeMultiplier("cost", 0.5))
    with pytest.raises(BadInput, match="at_least"):
        algebra.Constrained(progress, effort, limit=0.1, multiplier=LagrangeMultiplier("cost", 0.1, at_least=True))
    moving = LagrangeMultiplier("cost", Linear(1.0, 0.1))
    assert algebra.Constrained(progress, effort, limit=0.1, multiplier=moving).multiplier is moving


@pytest.mark.parametrize("initial", [0.0, 2.0])
def test_a_cost_is_measured_without_its_price_also_deep_inside_and_where_it_is_free(initial: float) -> None:
    e = batch(B=4).replace(member=torch.tensor([0, 1, 1, 0]))
    price = LagrangeMultiplier("cost", 0.1, initial=initial)
    cost = torch.where(e.mask, effort(e), torch.nan)
    constrained = algebra.Constrained(progress, effort, limit=0.1, multiplier=price)
    for whole in (constrained, 3.0 * constrained.clip(max=1.0) + 2.0, constrained.gated_by(algebra.Constant(0.0)),
                  progress.or_else(constrained), constrained.named("x"), algebra.minimum(constrained, progress)):
        assert torch.equal(whole.score(e).measured["cost"].nan_to_num(-9), cost.nan_to_num(-9))
    own = algebra.PerMember([progress, constrained]).score(e).measured["cost"]
    assert bool(own[[0, 3]].isnan().all()) and torch.equal(own[[1, 2]].nan_to_num(-9), cost[[1, 2]].nan_to_num(-9))


def test_lexicographic_ranks_by_the_first_then_the_second() -> None:
    first = reward(lambda obs: obs[..., 0].round(), range=(-9, 9), name="first")
    second = reward(lambda obs: obs[..., 1], range=(-5, 5), name="second")
    both = algebra.lexicographic([first, second], resolution=[1.0, 0.01])
    obs = torch.tensor([[1.0, -5.0], [0.0, 5.0], [1.0, -4.9]])
    value = both(Episodes.of_steps(obs=obs, action=torch.zeros(3), next_obs=obs))[0]
    assert value.argsort(descending=True).tolist() == [2, 0, 1]
    with pytest.raises(BadInput, match="finite"):
        algebra.lexicographic([first, effort], resolution=[1.0, 1.0])


def test_each_member_of_a_population_has_its_own_reward() -> None:
    e = batch(B=4).replace(member=torch.tensor([0, 1, 1, 0]))
    value = algebra.PerMember([progress, effort])(e)
    assert torch.allclose(value[[0, 3]], progress(e)[[0, 3]]) and torch.allclose(value[[1, 2]], effort(e)[[1, 2]])


@pytest.mark.parametrize("ids", [[0, 1, 2, 3], [0, 1, -1, 0], [5, 6, 5, 6]])
def test_a_member_without_a_reward_is_unknown_and_not_paid_0(ids: list[int]) -> None:
    both = algebra.PerMember([progress, effort])
    e = batch(B=4).replace(member=torch.tensor(ids))
    others = sorted({i for i in ids if i not in (0, 1)})
    score = both.score(e)
    assert not bool(score.known[score.mask].any())
    (reason,) = score.counts()
    assert "episodes.member: expected ids in 0..1" in reason and "2 rewards" in reason and str(others) in reason
    streamed, _ = both.stream(e.steps(0, 1), both.start(4))
    assert list(streamed.counts()) == [reason]
    with pytest.raises(BadInput, match="rewards: expected one for each member"):
        algebra.PerMember([])


@pytest.mark.parametrize("streamed", [False, True])
def test_the_terms_of_a_population_are_what_each_member_was_paid_for(streamed: bool) -> None:
    """Both have `shared`, with different weights; `own` is the first member's alone, and the last is unknown."""
    shared = reward(lambda obs: obs[..., 0], name="shared", vectorised=True, backend="torch")
    own = reward(lambda obs: obs[..., 1], name="own", vectorised=True, backend="torch")
    failing = reward(lambda obs: obs[..., 0] * torch.nan, name="shared", vectorised=True, backend="torch")
    each = [2.0 * shared + 3.0 * own, 5.0 * shared, failing]
    all_three = algebra.PerMember(each)
    e = batch(B=4).replace(member=torch.tensor([0, 1, 2, 0]))
    if streamed:
        e = e.steps(0, 1)
    score = all_three.stream(e, all_three.start(4))[0] if streamed else all_three.score(e)
    assert set(score.terms) == {"shared", "own"}
    a, b = (torch.where(e.mask, e.obs[..., i], 0.0) for i in (0, 1))
    factor = torch.tensor([[2.0], [5.0], [torch.nan], [2.0]])
    expected = torch.where(e.mask, a * factor, 0.0)
    torch.testing.assert_close(score.contribution("shared"), expected, equal_nan=True)
    mine = torch.tensor([[3.0], [0.0], [torch.nan], [3.0]])
    torch.testing.assert_close(score.contribution("own"), torch.where(e.mask, b * mine, 0.0), equal_nan=True)
    whole = score.contribution("shared") + score.contribution("own")
    torch.testing.assert_close(whole, score.value, equal_nan=True)


def test_roles_and_names_are_copies() -> None:
    gold = progress.named("gold progress").with_role("gold")
    assert (gold.name, gold.role, progress.name, progress.role) == ("gold progress", "gold", "progress", "train")
    with pytest.raises(BadInput, match="train, watch or gold"):
        progress.with_role("silver")  # type: ignore[arg-type]
