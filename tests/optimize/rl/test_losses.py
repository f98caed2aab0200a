from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from plaudit.core.errors import BadInput
from plaudit.optimize.rl import losses


def random_rows(rows=6, T=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64)  # noqa: E731
    terminated = torch.rand(rows, T, generator=g) < 0.2
    truncated = (torch.rand(rows, T, generator=g) < 0.2) & ~terminated
    return {"reward": r(rows, T), "value": r(rows, T), "next_value": r(rows, T), "terminated": terminated,
            "truncated": truncated}


def brute_force_gae(d, discount, lam, known=None):
    """Sums lambda-weighted deltas forward from every step, in plain loops."""
    rows, T = d["reward"].shape
    out = np.zeros((rows, T))
    ok = np.ones((rows, T), bool) if known is None else known.numpy()
    for b in range(rows):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                if not ok[b, k]:
                    break
                bootstrap = 0.0 if d["terminated"][b, k] else float(d["next_value"][b, k])
                out[b, t] += weight * (float(d["reward"][b, k]) + discount * bootstrap - float(d["value"][b, k]))
                if d["terminated"][b, k] or d["truncated"][b, k]:
                    break
                weight *= discount * lam
    return torch.from_numpy(out)


@pytest.mark.parametrize("discount, lam", [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)])
def test_gae_equals_sums_by_hand(discount, lam):
    d = random_rows()
    found = losses.gae(**d, discount=discount, gae_lambda=lam)
    torch.testing.assert_close(found, brute_force_gae(d, discount, lam))


def test_gae_has_a_discount_for_each_member():
    d = {k: v.view(2, 3, 9) for k, v in random_rows().items()}
    both = losses.gae(**d, discount=torch.tensor([0.9, 0.5]).double().view(2, 1, 1), gae_lambda=0.8)
    for p, discount in enumerate((0.9, 0.5)):
        alone = losses.gae(**{k: v[p] for k, v in d.items()}, discount=discount, gae_lambda=0.8)
        torch.testing.assert_close(both[p], alone)


def test_gae_bootstraps_where_we_stopped_looking_and_not_where_the_world_ended():
    one = torch.ones(1, 1)
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool)
    kw = {"reward": one, "value": 0 * one, "next_value": 10 * one, "discount": 0.5, "gae_lambda": 1.0}
    assert losses.gae(**kw, terminated=yes, truncated=no).item() == 1.0
    assert losses.gae(**kw, terminated=no, truncated=yes).item() == 6.0
    assert losses.gae(**kw, terminated=yes, truncated=yes).item() == 1.0


def test_gae_that_bootstraps_through_termination_is_caught():
    d = random_rows()
    broken = losses.gae(**{**d, "terminated": torch.zeros_like(d["terminated"]),
                           "truncated": d["terminated"] | d["truncated"]}, discount=0.9, gae_lambda=0.8)
    assert not torch.allclose(broken, brute_force_gae(d, 0.9, 0.8))


def test_an_unknown_reward_reaches_no_other_step():
    d = random_rows()
    known = torch.rand(d["reward"].shape, generator=torch.Generator().manual_seed(1)) > 0.3
    kw = {**d, "discount": 0.9, "gae_lambda": 0.8, "known": known}
    found = losses.gae(**kw)
    for fake in (torch.nan, 0.0, 1e6):
        again = losses.gae(**{**kw, "reward": torch.where(known, d["reward"], fake)})
        assert torch.equal(found, again)
    torch.testing.assert_close(found, brute_force_gae(d, 0.9, 0.8, known))
    assert not found[~known].any()
    zeroed = losses.gae(**{**kw, "known": None, "reward": torch.where(known, d["reward"], 0.0)})
    assert not torch.allclose(found[known], zeroed[known])


def test_gae_refuses_other_shapes():
    d = random_rows()
    with pytest.raises((BadInput, TypeCheckError)):
        losses.gae(**{**d, "next_value": d["next_value"][:, 1:]}, discount=0.9, gae_lambda=0.9)


def test_weighted_mean_leaves_out_what_has_no_weight():
    x = torch.tensor([[1.0, 2.0, 100.0], [4.0, 5.0, 6.0]])
    w = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert losses.weighted_mean(x, w).tolist() == [1.5, 5.0]
    normal = losses.normalise_advantage(x, w)
    np.testing.assert_allclose(normal[0, :2], [-1, 1], rtol=1e-5)
    np.testing.assert_allclose(losses.normalise_advantage(x)[1].std(correction=0), 1, rtol=1e-5)


def test_ppo_loss_is_the_lower_of_plain_and_clipped():
    g = torch.Generator().manual_seed(0)
    ratio, adv = torch.rand(50, generator=g) * 3, torch.randn(50, generator=g)
    found = losses.ppo_clip_loss(ratio.log(), adv, 0.2)
    expected = [-min(r * a, min(max(r, 0.8), 1.2) * a) for r, a in zip(ratio.tolist(), adv.tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_clipped_value_loss_is_never_below_the_plain_one():
    g = torch.Generator().manual_seed(0)
    v, target, old = torch.randn(3, 50, generator=g)
    plain, clipped = losses.value_loss(v, target), losses.value_loss(v, target, old_value=old, clip=0.1)
    assert bool((clipped >= plain).all()) and bool((clipped > plain).any())
    np.testing.assert_allclose(losses.value_loss(v, target, old_value=v, clip=0.1), plain)


def test_kl_estimate_is_unbiased_and_never_negative():
    old, new = torch.tensor([0.2, 0.8]), torch.tensor([0.5, 0.5])
    samples = losses.approximate_kl((new / old).log())
    assert float((old * samples).sum()) == pytest.approx(float((old * (old / new).log()).sum()))
    assert bool((samples >= 0).all())


def test_sac_numbers_by_hand():
    q = torch.tensor([[[1.0, 5.0], [2.0, 3.0]]])
    logp, alpha = torch.tensor([[-1.0, 2.0]]), torch.tensor([[0.5]])
    target = losses.sac_target(reward=torch.ones(1, 2), discount=torch.tensor([[0.9, 0.0]]), next_q=q,
                               next_log_prob=logp, alpha=alpha)
    np.testing.assert_allclose(target, [[1 + 0.9 * (1 + 0.5), 1.0]])
    np.testing.assert_allclose(losses.sac_actor_loss(logp, q, alpha), [[-0.5 - 1, 1 - 3]])


def test_temperature_rises_where_entropy_is_too_low():
    log_alpha = torch.zeros(1, 1, requires_grad=True)
    losses.temperature_loss(log_alpha, torch.tensor([[3.0]]), -1.0).sum().backward()
    assert log_alpha.grad is not None and log_alpha.grad.item() < 0


def test_double_dqn_chooses_with_one_network_and_values_with_the_other():
    g = torch.Generator().manual_seed(0)
    q, t = torch.randn(2, 2, 5, 3, generator=g)
    found = losses.double_dqn_target(reward=torch.zeros(2, 5), discount=torch.ones(2, 5), next_q=q, next_q_target=t)
    for p in range(2):
        for n in range(5):
            assert found[p, n] == t[p, n, int(q[p, n].argmax())]
    assert not torch.allclose(found, t.amax(-1))
