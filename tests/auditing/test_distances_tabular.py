from __future__ import annotations

import numpy as np
import pytest
import torch

from plaudit.auditing.distances.canonical import canonicalise
from plaudit.auditing.distances.tabular import dard, epic, mutual_regret, regret, starc
from plaudit.core.errors import BadInput, Unsupported
from plaudit.optimize import tabular as planning
from plaudit.tasks.tabular import TabularMDP, random_mdp

FULL = ("val", "minimal")
"""The canonicalisations that remove shaping and redistribution."""
NORMS = ("l1", "l2", "linf", "weighted_l1", "weighted_l2", "weighted_linf")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def world(seed=0, *, states=7, actions=3, discount=0.9, ends=False, batch=()):
    mdp = random_mdp(states=states, actions=actions, discount=discount, batch=batch, seed=seed)
    if not ends:
        return mdp
    transition = mdp.transition.clone()
    terminal = torch.zeros(states, dtype=torch.bool)
    terminal[-1] = True
    transition[..., -1, :, :] = terminal.double()
    return TabularMDP(transition=transition, reward=mdp.reward, initial=mdp.initial, terminal=terminal,
                      discount=discount)


def random_reward(mdp, seed, count=1):
    shape = (*mdp.transition.shape[:-3], count, mdp.S, mdp.A, mdp.S)
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64) * (~mdp.terminal).double()[:, None, None]


def shaping(mdp, seed):
    potential = 10 * torch.randn(mdp.S, generator=generator(seed), dtype=torch.float64) * ~mdp.terminal
    return mdp.discount * potential - potential[:, None, None]


def redistribution(mdp, seed):
    """Anything whose mean over next states is 0, and anything at all where a transition is impossible."""
    noise = 5 * torch.randn(mdp.transition.shape, generator=generator(seed), dtype=torch.float64)
    centred = noise - (mdp.transition * noise).sum(-1, keepdim=True)
    return torch.where(mdp.transition > 0, centred, noise) * (~mdp.terminal).double()[:, None, None]


def only_live(mdp, reward):
    """Rewards out of terminal states say nothing; zero them where the world can go."""
    keep = (~mdp.terminal)[:, None, None] | (mdp.transition == 0)
    return reward * keep


# --- invariance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("norm", [*NORMS, "range"])
@pytest.mark.parametrize("canonical", FULL)
def test_scale_shaping_and_redistribution_do_not_move_a_reward(canonical, norm, ends):
    mdp = world(1, ends=ends)
    r = random_reward(mdp, 2)[0]
    same = only_live(mdp, 7.5 * r + shaping(mdp, 3) + redistribution(mdp, 4))
    metric = "l2" if norm == "range" else norm
    d = starc(torch.stack([r, same, -r]), mdp, canonical=canonical, norm=norm, metric=metric)
    assert float(d[0, 1]) < 1e-9
    if norm != "range":
        assert float(d[0, 2]) == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize("canonical", ["val_potential", "minimal_potential", "epic", "dard", "none"])
def test_broken_variants_are_caught(canonical):
    """What removes shaping only is moved by redistribution; what removes nothing is moved by shaping too."""
    mdp = world(1)
    r = random_reward(mdp, 2)[0]
    shaped, redistributed = r + shaping(mdp, 3), r + redistribution(mdp, 4)
    d = starc(torch.stack([r, shaped, redistributed]), mdp, canonical=canonical)
    assert float(d[0, 2]) > 0.1
    assert (float(d[0, 1]) > 0.1) if canonical == "none" else (float(d[0, 1]) < 1e-9)


def test_epic_counter_example_redistribution_moves_epic_but_no_policy_order():
    mdp = world(5)
    r = random_reward(mdp, 6)[0]
    same = r + redistribution(mdp, 7)
    both = torch.stack([r, same])
    policies = torch.rand(50, mdp.S, mdp.A, generator=generator(8), dtype=torch.float64).softmax(-1)
    values = [planning.expected_return(mdp.with_reward(x), policies) for x in both]
    assert torch.allclose(values[0], values[1], atol=1e-9)
    assert float(regret(both, mdp).max()) < 1e-9
    assert float(epic(both, mdp)[0, 1]) > 0.1
    assert float(starc(both, mdp)[0, 1]) < 1e-9


def test_opposite_rewards_of_different_order_lie_at_most_two_apart_and_triangles_close():
    mdp = world(9)
    for norm in ("l2", "weighted_l1", "linf"):
        d = starc(random_reward(mdp, 10, count=8), mdp, norm=norm, metric=norm)
        assert torch.allclose(d, d.T)
        assert float(d.max()) <= 2 + 1e-12
        through = (d[:, :, None] + d[None]).amin(1)
        assert bool((d <= through + 1e-12).all())


def test_angle_agrees_with_the_chord_on_the_sphere():
    mdp = world(11)
    r = random_reward(mdp, 12, count=4)
    r = torch.cat([r, -r[:1], 3 * r[:1]])
    chord, angle = starc(r, mdp), starc(r, mdp, metric="angle")
    assert torch.allclose(2 * (angle / 2).sin(), chord, atol=1e-9)
    assert float(angle[0, 4]) == pytest.approx(torch.pi)
    assert float(angle[0, 5]) < 1e-9


def test_epic_forms_agree():
    mdp = world(13)
    r = random_reward(mdp, 14, count=4)
    pearson, chord = epic(r, mdp), epic(r, mdp, form="l2")
    assert torch.allclose(pearson, epic(r + 3.0, mdp), atol=1e-9)
    c = canonicalise(r, mdp, canonical="epic").values
    for i in range(4):
        for j in range(4):
            correlation = np.corrcoef(c[i], c[j])[0, 1]
            assert float(pearson[i, j]) == pytest.approx(np.sqrt(max(0, 1 - correlation) / 2), abs=1e-6)
            assert float(chord[i, j]) == pytest.approx(float((c[i] / c[i].norm() - c[j] / c[j].norm()).norm()))


def test_pairs_given_by_to_equal_the_matrix():
    mdp = world(15)
    r = random_reward(mdp, 16, count=3)
    other = random_reward(mdp, 17, count=3)
    both = torch.cat([r, other])
    for call in (starc, epic, dard, regret, mutual_regret):
        full = call(both, mdp)
        assert torch.allclose(call(r, mdp, to=other), full[torch.arange(3), torch.arange(3, 6)], atol=1e-12)
    full = starc(both, mdp, metric="weighted_angle", norm="range")
    got = starc(r, mdp, to=other, metric="weighted_angle", norm="range")
    assert torch.allclose(got, full[torch.arange(3), torch.arange(3, 6)])


# --- against plain loops -----------------------------------------------------------------------------------


def loops(mdp, R, kind):
    """Canonicalisations written as their definitions, with loops."""
    T, g, S, A = mdp.transition.numpy(), mdp.discount, mdp.S, mdp.A
    rng_s, rng_a = range(S), range(A)
    V = np.zeros(S)
    for _ in range(600):
        V = np.array([sum(T[s, a, t] * (R[s, a, t] + g * V[t]) for a in rng_a for t in rng_s) / A for s in rng_s])
    C = np.zeros((S, A, S))
    for s in rng_s:
        for a in rng_a:
            for t in rng_s:
                if kind == "val":
                    C[s, a, t] = sum(T[s, a, u] * (R[s, a, u] + g * V[u] - V[s]) for u in rng_s)
                elif kind == "val_potential":
                    C[s, a, t] = R[s, a, t] + g * V[t] - V[s]
                elif kind == "epic":
                    C[s, a, t] = R[s, a, t] + np.mean([
                        g * R[t, b, v] - R[s, b, v] - g * R[u, b, v] for u in rng_s for b in rng_a for v in rng_s])
                elif kind == "dard":
                    C[s, a, t] = R[s, a, t] + np.mean([sum(
                        T[s, b, u] * T[t, b, v] * (g * R[t, b, v] - R[s, b, u] - g * R[u, b, v])
                        for u in rng_s for v in rng_s) for b in rng_a])
    return C


@pytest.mark.parametrize("kind", ["val", "val_potential", "epic", "dard"])
def test_canonical_rewards_equal_their_definitions(kind):
    mdp = world(18, states=4, actions=2)
    R = random_reward(mdp, 19)
    c = canonicalise(R, mdp, canonical=kind).values[0]
    got = c.reshape(4, 2, -1).expand(4, 2, 4) if kind == "val" else c.reshape(4, 2, 4)
    assert np.allclose(got, loops(mdp, R[0].numpy(), kind), atol=1e-10)


def test_norms_equal_their_definitions():
    mdp = world(20, states=4, actions=2)
    R = random_reward(mdp, 21, count=2)
    C = [loops(mdp, r.numpy(), "val") for r in R]
    T = mdp.transition.numpy()
    norms = {"l1": lambda x: abs(x).sum(), "l2": lambda x: (x**2).sum() ** 0.5, "linf": lambda x: abs(x).max(),
             "weighted_l1": lambda x: (T * abs(x)).sum(), "weighted_l2": lambda x: (T * x**2).sum() ** 0.5,
             "weighted_linf": lambda x: abs(x[T > 0]).max()}
    for n, norm in norms.items():
        for m, metric in norms.items():
            expected = metric(C[0] / norm(C[0]) - C[1] / norm(C[1]))
            assert float(starc(R, mdp, norm=n, metric=m)[0, 1]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighting", ["uniform", "transition"])
@pytest.mark.parametrize("ends", [False, True])
def test_minimal_is_the_least_of_its_class(weighting, ends):
    """Against least squares over the potential and every redistribution, written out as one big matrix."""
    mdp = world(22, states=4, actions=2, ends=ends)
    R = random_reward(mdp, 23)
    S, A, T = 4, 2, mdp.transition
    columns = []
    for z in range(S):
        if not mdp.terminal[z]:
            phi = torch.eye(S, dtype=torch.float64)[z]
            columns.append(mdp.discount * phi - phi[:, None, None].expand(S, A, S))
    for s in range(S):
        for a in range(A):
            if not mdp.terminal[s]:
                null = torch.linalg.svd(T[s, a][None])[2][1:]
                for direction in null:
                    block = torch.zeros(S, A, S, dtype=torch.float64)
                    block[s, a] = direction
                    columns.append(block)
    live = (~mdp.terminal).double()[:, None, None]
    weight = ((T if weighting == "transition" else torch.ones_like(T)) * live).sqrt()
    design = torch.stack([(weight * c).reshape(-1) for c in columns], 1)
    target = (weight * R[0]).reshape(-1)
    x = torch.linalg.lstsq(design, -target, driver="gelsd").solution
    least = (target + design @ x).square().sum()
    c = canonicalise(R, mdp, canonical="minimal", weighting=weighting)
    assert float((c.weight(weighting) * c.values**2).sum()) == pytest.approx(float(least), rel=1e-9)
    potentials = sum(1 for z in range(S) if not mdp.terminal[z])
    x = torch.linalg.lstsq(design[:, :potentials], -target, driver="gelsd").solution
    least = (target + design[:, :potentials] @ x).square().sum()
    c = canonicalise(R, mdp, canonical="minimal_potential", weighting=weighting)
    assert float((c.weight(weighting) * c.values**2).sum()) == pytest.approx(float(least), rel=1e-9)


def test_canonical_reward_has_the_policy_order_of_its_reward():
    mdp = world(24)
    R = random_reward(mdp, 25)
    policies = torch.rand(40, mdp.S, mdp.A, generator=generator(26), dtype=torch.float64).softmax(-1)
    J = planning.expected_return(mdp.with_reward(R[0]), policies)
    for canonical in ("val", "minimal"):
        c = canonicalise(R, mdp, canonical=canonical).expected[0]
        Jc = planning.expected_return(mdp.with_reward(c.unsqueeze(-1).expand(-1, -1, mdp.S)), policies)
        assert torch.allclose(Jc - Jc[0], J - J[0], atol=1e-9)


# --- regret ------------------------------------------------------------------------------------------------


def test_regret_is_what_the_other_optimum_loses():
    mdp = world(27, states=5, actions=2)
    R = random_reward(mdp, 28, count=3)
    got = regret(R, mdp)
    for i in range(3):
        one = mdp.with_reward(R[i])
        worst, best = planning.return_range(one)
        for j in range(3):
            policy = planning.policy_iteration(mdp.with_reward(R[j])).policy
            expected = (best - planning.expected_return(one, policy)) / (best - worst)
            assert float(got[i, j]) == pytest.approx(float(expected), abs=1e-10)
    assert float(regret(torch.stack([R[0], -R[0]]), mdp)[0, 1]) == pytest.approx(1.0)


def test_distance_bounds_regret():
    """Soundness, numerically: with the range norm, regret is at most the distance in the metric it is sharp for."""
    mdp = world(29, states=6, actions=2)
    R = random_reward(mdp, 30, count=12)
    # |J1' - J2'| <= sup over (s, a) of the difference / (1 - discount), twice, once for each policy
    upper = 2 / (1 - mdp.discount)
    d = starc(R, mdp, norm="range", metric="linf")
    assert bool((regret(R, mdp) <= upper * d + 1e-9).all())
    mixed = R[:1] + torch.linspace(0, 1e-3, 12)[:, None, None, None] * R
    d, lost = starc(mixed, mdp, norm="range", metric="linf"), regret(mixed, mdp)
    assert bool((lost <= upper * d + 1e-9).all())


def test_policies_differ_by_at_least_a_share_of_the_distance():
    """Completeness, numerically: some pair of policies is ordered apart by a share of the distance."""
    mdp = world(31, states=4, actions=2)
    R = random_reward(mdp, 32, count=6)
    policies = torch.cartesian_prod(*[torch.arange(2)] * 4)
    J = torch.stack([planning.expected_return(mdp.with_reward(r), policies) for r in R])
    J = (J - J.mean(-1, keepdim=True)) / (J.amax(-1) - J.amin(-1))[:, None]
    for i in range(6):
        for j in range(i):
            gap = (J[i][:, None] - J[i][None]) * ((J[j][:, None] - J[j][None]) <= 0)
            assert float(gap.amax()) >= 0.05 * float(starc(R[[i, j]], mdp)[0, 1])


# --- edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canonical", ["val", "minimal", "epic", "dard", "val_potential", "minimal_potential"])
def test_trivial_rewards_are_alike_and_one_from_all_others(canonical):
    """Constants leave 1e-16 under VAL; dividing by that would make noise look like a reward."""
    mdp = world(33, discount=0.99)
    r = random_reward(mdp, 34)[0]
    constant = torch.full_like(r, 1e3 / 3)
    d = starc(torch.stack([torch.zeros_like(r), constant, constant + shaping(mdp, 35), r]), mdp, canonical=canonical)
    assert float(d[:3, :3].max()) == 0.0
    assert torch.allclose(d[:3, 3], torch.ones(3, dtype=torch.float64))
    assert not bool(torch.isnan(epic(torch.stack([constant, r]), mdp)).any())
    assert float(epic(torch.stack([constant, r]), mdp)[0, 1]) == pytest.approx(0.5**0.5)
    assert regret(torch.stack([constant, r]), mdp)[0].tolist() == [0.0, 0.0]
    assert float(starc(torch.stack([constant, r]), mdp, metric="angle")[0, 1]) == pytest.approx(torch.pi / 2)


@pytest.mark.parametrize("canonical", FULL)
def test_rewards_of_very_unlikely_transitions_are_no_rounding(canonical):
    """Random worlds hold transitions of probability 1e-10; a reward on them alone still orders policies."""
    mdp = random_mdp(states=8, actions=2, discount=0.95, seed=46)
    rare = torch.where(mdp.transition < 1e-6, random_reward(mdp, 47)[0].abs(), 0.0)
    assert float((mdp.transition * rare).sum(-1).amax()) < 1e-7
    d = starc(torch.stack([rare, -rare, 5 * rare + shaping(mdp, 48)]), mdp, canonical=canonical)
    assert float(d[0, 1]) == pytest.approx(2.0, abs=1e-6)
    assert float(d[0, 2]) < 1e-3
    assert float(starc(torch.stack([rare, -rare]), mdp, canonical=canonical, trivial=1e-4)[0, 1]) == 0.0
    assert float(regret(torch.stack([rare, -rare]), mdp)[0, 1]) == pytest.approx(1.0)


def test_unreachable_states_count_unless_left_out():
    transition = torch.zeros(3, 2, 3, dtype=torch.float64)
    transition[0, 0, 0] = transition[0, 1, 1] = transition[1, :, 0] = transition[2, :, 0] = 1
    mdp = TabularMDP(transition=transition, reward=torch.zeros(3, 2, 3), initial=torch.tensor([1.0, 0, 0]),
                     terminal=torch.zeros(3, dtype=torch.bool), discount=0.9)
    r = random_reward(mdp, 36)[0]
    other = r.clone()
    other[2] += torch.tensor([4.0, -4.0])[:, None]
    both = torch.stack([r, other])
    for canonical in ("val", "minimal", "minimal_potential", "val_potential"):
        assert float(starc(both, mdp, canonical=canonical)[0, 1]) > 0.1
        assert float(starc(both, mdp, canonical=canonical, states="reachable")[0, 1]) < 1e-9


@pytest.mark.parametrize("ends", [False, True])
def test_sparse_worlds_give_the_same_distances(ends):
    mdp = world(37, ends=ends, states=9)
    R = torch.stack([only_live(mdp, r) for r in random_reward(mdp, 38, count=4)])
    # softmax leaves e-20 everywhere: make impossible what is nearly so
    transition = torch.where(mdp.transition > 1e-6, mdp.transition, 0.0)
    mdp = TabularMDP(transition=transition / transition.sum(-1, keepdim=True), reward=mdp.reward,
                     initial=mdp.initial, terminal=mdp.terminal, discount=0.9)
    sparse = mdp.to_sparse()
    row, column = sparse.entries()
    aligned = R.reshape(4, -1, 9)[:, row, column]
    calls = [{"canonical": "val"}, {"canonical": "val", "norm": "range"}, {"canonical": "minimal"},
             {"canonical": "val", "norm": "linf", "metric": "weighted_l1"}, {"canonical": "val", "metric": "angle"}]
    calls += [{"canonical": c, "norm": "weighted_l2", "metric": "weighted_l2"}
              for c in ("none", "val", "val_potential", "minimal", "minimal_potential")]
    for options in calls:
        for states in ("all", "reachable"):
            expected = starc(R, mdp, **options, states=states)
            assert torch.allclose(starc(aligned, sparse, **options, states=states), expected, atol=1e-9), options
    assert torch.allclose(regret(aligned, sparse), regret(R, mdp), atol=1e-9)


def test_many_worlds_at_once_equal_one_by_one():
    mdp = world(39, batch=(3,))
    R = random_reward(mdp, 40, count=4)
    for call in (starc, epic, dard, regret, lambda r, m: starc(r, m, canonical="minimal"),
                 lambda r, m: starc(r, m, canonical="minimal_potential", norm="weighted_l2", metric="linf")):
        together = call(R, mdp)
        for b in range(3):
            one = TabularMDP(transition=mdp.transition[b], reward=mdp.reward, initial=mdp.initial,
                             terminal=mdp.terminal, discount=mdp.discount)
            assert torch.allclose(call(R[b], one), together[b], atol=1e-10)


def test_many_worlds_are_handled_a_few_at_a_time_with_the_same_result(monkeypatch):
    mdp = world(49, batch=(9,))
    R, other = random_reward(mdp, 50, count=2), random_reward(mdp, 51, count=2)
    whole, pairs = starc(R, mdp), starc(R, mdp, to=other, norm="weighted_l1")
    monkeypatch.setattr("plaudit.auditing.distances.tabular._CHUNK", 700)
    assert torch.allclose(starc(R, mdp), whole, atol=1e-12)
    assert torch.allclose(starc(R, mdp, to=other, norm="weighted_l1"), pairs, atol=1e-12)


def test_large_grid_is_compared_exactly():
    n = 80
    cell = np.arange(n * n).reshape(n, n)
    moves = [np.clip(cell // n + dy, 0, n - 1) * n + np.clip(cell % n + dx, 0, n - 1)
             for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    mdp = TabularMDP.of_transitions(
        state=np.tile(cell.ravel(), 4), action=np.repeat(np.arange(4), n * n),
        next_state=np.concatenate([m.ravel() for m in moves]), probability=np.ones(4 * n * n),
        reward=np.zeros(4 * n * n), states=n * n, actions=4, initial=np.eye(1, n * n)[0],
        terminal=np.arange(n * n) == n * n - 1, discount=0.95)
    assert mdp.sparse
    row, column = mdp.entries()
    alive = (row // 4 != n * n - 1).double()
    goal = (column == n * n - 1).double() * alive
    potential = torch.randn(n * n, generator=generator(41), dtype=torch.float64)
    potential[-1] = 0
    shaped = 2 * goal + (0.95 * potential[column] - potential[row // 4]) * alive
    d = starc(torch.stack([goal, shaped, -goal]), mdp)[0]
    assert float(d[1]) < 1e-9
    assert float(d[2]) == pytest.approx(2.0)


def as_a_user(function, *args, **kwargs):
    """Calls without the type check of the tests, which would be faster than ours."""
    return getattr(function, "__wrapped__", function)(*args, **kwargs)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda m, r: starc(r[0], m), BadInput, "axis R"),
    (lambda m, r: as_a_user(starc, r, m, norm="l3"), BadInput, "norm"),
    (lambda m, r: as_a_user(starc, r, m, metric="range"), BadInput, "metric"),
    (lambda m, r: as_a_user(canonicalise, r, m, canonical="best"), BadInput, "canonical"),
    (lambda m, r: as_a_user(canonicalise, r, m, states="some"), BadInput, "states"),
    (lambda m, r: starc(r * float("nan"), m), BadInput, "finite"),
    (lambda m, r: starc(r, m, to=r[:1]), BadInput, "as many"),
    (lambda m, r: epic(r, m, to=r[:1]), BadInput, "as many"),
    (lambda m, r: as_a_user(epic, r, m, form="kendall"), BadInput, "form"),
    (lambda m, r: as_a_user(dard, r, m, coverage="kendall"), BadInput, "coverage"),
    (lambda m, r: epic(torch.zeros(1, m.to_sparse().transition.nnz), m.to_sparse()), Unsupported, "impossible"),
    (lambda m, r: starc(torch.zeros(1, m.to_sparse().transition.nnz), m.to_sparse(), canonical="none"), Unsupported,
     "weighted_"),
])
def test_bad_input_is_named(call, error, text):
    mdp = world(42)
    with pytest.raises(error, match=text):
        call(mdp, random_reward(mdp, 43, count=2))


def test_reward_out_of_a_terminal_state_is_refused():
    mdp = world(44, ends=True)
    with pytest.raises(BadInput, match="terminal state that pays"):
        starc(torch.ones(2, mdp.S, mdp.A, mdp.S), mdp)


@pytest.mark.parametrize("measure", [starc, epic, dard, regret])
def test_arrays_are_taken_as_tensors(measure):
    mdp = random_mdp(states=4, actions=2, seed=0)
    R = torch.randn(2, 4, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = getattr(measure, "__wrapped__", measure)(R.numpy(), mdp)
    assert torch.equal(found, measure(R, mdp))
