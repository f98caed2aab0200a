from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.optimize.evolve import Archive, AugmentedRandomSearch, CrossEntropy, Network, Rhythm, Segments, Table
from plaudit.optimize.evolve.cem import ranking
from plaudit.optimize.evolve.families import Lens, families
from plaudit.optimize.rl.spaces import ActionMap, ObsEncoder

BOX = gymnasium.spaces.Box(-1.0, 1.0, (3,))
TARGET = torch.tensor([1.0, -2.0, 0.5, 3.0])


def lens() -> Lens:
    return Lens(ObsEncoder(BOX))


def sphere(theta):
    return -(theta - TARGET).double().square().sum(-1)


@pytest.mark.parametrize("kind", [CrossEntropy, AugmentedRandomSearch])
def test_search_finds_the_top_of_a_sphere(kind) -> None:
    search = kind(4, rng=np.random.default_rng(0))
    first = float(sphere(search.mean))
    for _ in range(150):
        theta = search.ask(32)
        search.tell(theta, sphere(theta))
    assert float(sphere(search.mean)) > 0.02 * first


@pytest.mark.parametrize("kind", [CrossEntropy, AugmentedRandomSearch])
def test_search_told_noise_instead_of_scores_does_not_find_it(kind) -> None:
    search, noise = kind(4, rng=np.random.default_rng(0)), np.random.default_rng(1)
    for _ in range(150):
        theta = search.ask(32)
        search.tell(theta, torch.from_numpy(noise.standard_normal(32)))
    assert float(sphere(search.mean)) < -3.0


@pytest.mark.parametrize("kind", [CrossEntropy, AugmentedRandomSearch])
def test_unknown_scores_rank_last_and_leave_the_search_finite(kind) -> None:
    search = kind(4, rng=np.random.default_rng(0))
    for _ in range(100):
        theta = search.ask(32)
        search.tell(theta, torch.where(theta[:, 0] < 0, torch.nan, sphere(theta)))
    assert float(search.mean[0]) > 0.5 and bool(torch.isfinite(search.mean).all())
    assert ranking(torch.tensor([float("nan"), -5.0, 2.0])).tolist() == [2, 1, 0]


def test_search_with_equal_scores_stands_still_and_says_so() -> None:
    search = AugmentedRandomSearch(3, rng=np.random.default_rng(0))
    for _ in range(6):
        search.tell(search.ask(8), torch.ones(8))
    assert search.converged and search.mean.tolist() == [0.0, 0.0, 0.0]


def test_the_same_generator_gives_the_same_bits() -> None:
    def run() -> torch.Tensor:
        search = CrossEntropy(4, rng=np.random.default_rng(3))
        for _ in range(5):
            theta = search.ask(16)
            search.tell(theta, sphere(theta))
        return search.mean

    assert torch.equal(run(), run())


# --- archive -------------------------------------------------------------------------------------------------


def test_archive_keeps_the_best_of_each_cell_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    archive = Archive(2, bins=(5, 3), rng=rng)
    told = [(torch.from_numpy(rng.standard_normal((40, 2))).float(), torch.from_numpy(rng.standard_normal(40)))
            for _ in range(5)]
    best: dict[int, float] = {}
    for theta, score in told:
        archive.tell(theta, score, descriptor_KM=theta)
        for cell, s in zip(archive.cell(theta).tolist(), score.tolist(), strict=True):
            best[cell] = max(best.get(cell, -np.inf), s)
    assert {c: float(archive.score[c]) for c in archive.taken.nonzero()[:, 0].tolist()} == best


def test_archive_keeps_several_ways_to_earn_where_a_plain_search_keeps_one() -> None:
    two_hills = lambda x: torch.maximum(-(x[:, 0] - 2).square(), -0.5 - (x[:, 0] + 2).square()).double()  # noqa: E731
    archive = Archive(1, bins=(16,), rng=np.random.default_rng(0))
    search = CrossEntropy(1, rng=np.random.default_rng(0))
    for _ in range(60):
        x = archive.ask(32)
        archive.tell(x, two_hills(x), descriptor_KM=x)
        y = search.ask(32)
        search.tell(y, two_hills(y))
    theta, score = archive.elites()
    assert float(theta[score > -0.6].min()) < -1.5 and float(theta[score > -0.6].max()) > 1.5
    assert abs(float(search.mean) - 2) < 0.1


def test_archive_files_nothing_that_is_unknown() -> None:
    archive = Archive(1, bins=(4,), rng=np.random.default_rng(0))
    x = archive.ask(8)
    entered = archive.tell(x, torch.full((8,), torch.nan), descriptor_KM=x)
    assert not bool(entered.any()) and archive.filled == 0
    with pytest.raises(BadInput, match="at least one scored candidate"):
        archive.best()


# --- families ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(5, start=3),
                                   gymnasium.spaces.MultiDiscrete([2, 3]), gymnasium.spaces.MultiBinary(3),
                                   gymnasium.spaces.Box(-2.0, 2.0, (2,)), gymnasium.spaces.Box(-np.inf, np.inf, (1,))])
def test_families_give_actions_of_the_space_for_every_candidate(space) -> None:
    for family in families(lens(), ActionMap(space), horizon=50):
        theta = torch.from_numpy(np.random.default_rng(0).standard_normal((4, family.size)).astype("float32")) * 3
        policy = family.policy(theta)
        for step in (0, 7):
            action, _ = policy.act(torch.randn(8, 3), policy.start(8), step=step)
            assert action.shape == (8, *space.shape)
            assert all(space.contains(a.numpy().astype(space.dtype)) for a in action)


def test_a_candidate_alone_acts_as_it_does_beside_others() -> None:
    family = Network(lens(), ActionMap(gymnasium.spaces.Discrete(3)), hidden=4)
    theta = torch.from_numpy(np.random.default_rng(0).standard_normal((5, family.size)).astype("float32"))
    obs = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 3)).astype("float32"))
    together = family.policy(theta)
    all_actions, _ = together.act(obs.repeat(5, 1), together.start(10), step=0)
    for k in range(5):
        alone = family.policy(theta[k:k + 1])
        assert torch.equal(alone.act(obs, alone.start(2), step=0)[0], all_actions[2 * k:2 * k + 2])


def test_rhythm_repeats_after_its_period_and_table_after_its_length() -> None:
    rhythm = Rhythm(ActionMap(gymnasium.spaces.Box(-1.0, 1.0, (1,))), longest=32)
    theta = torch.tensor([[0.0, 0.0, 0.9, 0.25]])
    period = float(rhythm.period(theta))
    assert period == pytest.approx(8.0)
    act = lambda f, t, step: f.policy(t).act(torch.zeros(1, 3), 1, step=step)[0]  # noqa: E731
    assert torch.allclose(act(rhythm, theta, 3), act(rhythm, theta, 11), atol=1e-5)
    assert not torch.allclose(act(rhythm, theta, 1), act(rhythm, theta, 5), atol=0.1)
    table = Table(ActionMap(gymnasium.spaces.Discrete(2)), longest=3)
    rows = torch.tensor([[50.0, *[1.0, 0.0], *[0.0, 1.0], *[0.0, 1.0]]])
    assert [int(act(table, rows, t)) for t in range(6)] == [0, 1, 1, 0, 1, 1]


def test_lens_makes_features_comparable_and_survives_what_is_not_finite() -> None:
    look = lens()
    look.focus(torch.tensor([[0.0, 100.0, 5.0], [2.0, 300.0, 5.0]]))
    seen = look(torch.tensor([[2.0, 300.0, 6.0], [float("nan"), float("inf"), 5.0]]))
    assert seen[0].tolist() == [1.0, 1.0, 1.0] and seen[1].tolist() == [0.0, 10.0, 0.0]


def test_stretches_follow_each_other_and_the_last_is_held() -> None:
    family = Segments(ActionMap(gymnasium.spaces.Discrete(3)), segments=3, longest=7)
    theta = torch.zeros(1, family.size)
    theta[0, 0], theta[0, 1] = 1.0, -50.0  # lengths exp(log(8) / 2) = 2.8 and 1, rounded down
    theta[0, 3:] = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).flatten()
    assert family.ends(theta)[0, :2].tolist() == [2.0, 3.0]
    assert [int(family.policy(theta).act(torch.zeros(1, 3), 1, step=t)[0]) for t in range(6)] == [1, 1, 2, 0, 0, 0]


def test_features_look_at_steps_and_not_at_padding() -> None:
    """Padding holds 0, which `Discrete(10, start=5)` lacks; the numbers are those of each episode alone."""
    import gymnasium

    from plaudit.core.episodes import Episodes
    from plaudit.optimize.behaviours import features
    from plaudit.optimize.rl.spaces import ObsEncoder

    rows = [torch.tensor([5, 6, 14, 9, 9]), torch.tensor([13, 5])]
    alone = [Episodes.of_steps(obs=x, action=torch.ones(len(x)), next_obs=x) for x in rows]
    encode = ObsEncoder(gymnasium.spaces.Discrete(10, start=5))
    both = features(Episodes.cat(alone), encode)
    for row, one in zip(both, alone, strict=True):
        assert torch.equal(row[:-1], features(one, encode)[0, :-1])
