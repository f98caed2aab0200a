"""Losses of reward models, as small functions of gaps and ratings. Nothing is reduced here: a number for each pair.

gap = reward of the first option - reward of the second; label y = probability that the first is better; sigma the
logistic function. The plain loss is `plaudit.learn.losses.pair_loss`, -y log sigma(gap) - (1 - y) log sigma(-gap). The
`objectives` put these into batches, by name.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from plaudit.core.errors import BadInput
from plaudit.learn.losses import pair_loss


def bradley_terry(gap: Float[Tensor, "..."], label: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """L = -y log sigma(gap) - (1 - y) log sigma(-gap) (Bradley and Terry 1952; HelpSteer2-Preference, eq. 2).

    Example:
        >>> bradley_terry(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
        tensor([0.6931, 0.1269])
    """
    return pair_loss(gap, label)


def margin(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], m: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """L = -log sigma(gap - m) for the better option: it has to win by m (Llama 2, eq. 2; HelpSteer2-Preference, eq. 3).

    Example:
        >>> margin(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([2.0]))
        tensor([0.6931])
    """
    return pair_loss(gap, label, margin=m)


def scaled(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], m: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """L = -m log sigma(gap): a stronger preference counts as often as it is strong (HelpSteer2-Preference, eq. 4).

    Example:
        >>> scaled(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 3.0]))
        tensor([0.0000, 2.0794])
    """
    return m * pair_loss(gap, label)


def smooth(gap: Float[Tensor, "..."], label: Float[Tensor, "..."],
           epsilon: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
    """L = -(1 - epsilon) log sigma(gap) - epsilon log sigma(-gap) (Secrets of RLHF II, section 2.3, soft labels).

    Example:
        >>> smooth(torch.tensor([2.0]), torch.tensor([1.0]), 0.1)  # 0.9 * 0.1269 + 0.1 * 2.1269
        tensor([0.3269])
    """
    return pair_loss(gap, (1 - epsilon) * label + epsilon * (1 - label))


def flipped(label: Float[Tensor, "..."], flip: Bool[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The label with the sides changed where `flip` says so (Secrets of RLHF II, section 2.3).

    Example:
        >>> flipped(torch.tensor([1.0, 0.75]), torch.tensor([True, False]))
        tensor([0.0000, 0.7500])
    """
    return torch.where(flip, 1 - label, label)


def adaptive_margin(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], mu: Float[Tensor, "..."], *,
                    most: float = 5.0) -> Float[Tensor, "..."]:
    """L = -log sigma(gap - m), with m = min(max(mu, 0), most) the strength that other models see.

    Args:
        gap: Difference of rewards.
        label: Who is better.
        mu: The mean difference under an ensemble that did not see the pair, towards the option labelled better.
        most: Where the margin is clipped; a head that is bounded could not give more.

    Source:
        Secrets of RLHF II (arXiv 2401.06080), section 2.3, adaptive margin.
    """
    return pair_loss(gap, label, margin=mu.clamp(0, most))


def ties(gap: Float[Tensor, "..."], label: Float[Tensor, "..."], tie: Bool[Tensor, "..."], *,
         width: float = 0.5) -> Float[Tensor, "..."]:
    """Rao and Kupper (1967): a win costs -log sigma(gap - eta); a tie has a probability of its own, see `pair_loss`."""
    return pair_loss(gap, label, tie=tie, ties="rao-kupper", tie_width=width)


def center(reward: Float[Tensor, "... O"]) -> Float[Tensor, "..."]:
    """L = (sum of the rewards of the options)^2: keeps rewards near 0 (Eisenstein et al. 2023, eq. 2)."""
    return reward.sum(-1).square()


# --- ratings and targets ------------------------------------------------------------------------------


def masked_square(value: Float[Tensor, "..."], target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """(value - target)^2 where the target is known, 0 (with no gradient) where it is NaN.

    Over a batch the loss is its sum divided by how many targets are known (HelpSteer2-Preference, section 3.1).

    Example:
        >>> masked_square(torch.tensor([3.0, 5.0]), torch.tensor([4.0, float("nan")]))
        tensor([1., 0.])
    """
    known = ~target.isnan()
    return torch.where(known, (value - target.nan_to_num()).square(), torch.zeros_like(value))


def gaussian_nll(mean: Float[Tensor, "..."], std: Float[Tensor, "..."],
                 target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """L = log sigma + (target - mu)^2 / (2 sigma^2): keeps sigma informative (a named deviation from Yan et al.).

    Example:
        >>> gaussian_nll(torch.tensor([0.0]), torch.tensor([2.0]), torch.tensor([2.0]))
        tensor([1.1931])
    """
    return std.log() + ((target - mean) / std).square() / 2


def gaussian_square(mean: Float[Tensor, "..."], std: Float[Tensor, "..."],
                    target: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """E (mu + sigma eps - target)^2 = (mu - target)^2 + sigma^2, in closed form.

    Source:
        Reward-Robust RLHF (arXiv 2409.15360), section 3.2. Its minimum over sigma is 0: sigma says something only
        where each head copies a target of its own.

    Example:
        >>> gaussian_square(torch.tensor([0.0]), torch.tensor([2.0]), torch.tensor([2.0]))
        tensor([8.])
    """
    return (mean - target).square() + std.square()


# --- contrast between representations -----------------------------------------------------------------


def simcse(h_ND: Float[Tensor, "*P N D"], again_ND: Float[Tensor, "*P N D"], *,
           tau: float = 0.05) -> Float[Tensor, "*P N"]:
    """L_i = -log( exp(cos(h_i, h_i+) / tau) / sum_j exp(cos(h_i, h_j+) / tau) ), in each batch of leading axes.

    Args:
        h_ND: Representations of one dropout pass.
        again_ND: Those of another.
        tau: The temperature.

    Source:
        Gao et al. (2021), SimCSE, eq. 1; Secrets of RLHF II, section 3.1.

    Example:
        >>> simcse(torch.eye(2), torch.eye(2), tau=1.0)  # -log(e / (e + 1))
        tensor([0.3133, 0.3133])
    """
    _temperature(tau)
    similar_NN = normalize(h_ND, dim=-1) @ normalize(again_ND, dim=-1).transpose(-1, -2) / tau
    return -log_softmax(similar_NN, -1).diagonal(dim1=-2, dim2=-1)


def swav(h_ND: Float[Tensor, "*P N D"], again_ND: Float[Tensor, "*P N D"], prototype_CD: Float[Tensor, "*P C D"], *,
         tau: float = 0.1, epsilon: float = 0.05, rounds: int = 3) -> Float[Tensor, "*P N"]:
    """L = H(q+, p) / 2 + H(q, p+) / 2: each pass predicts the prototypes that the other is assigned to.

    p = softmax(prototype . h / tau); q comes from `assignments` and has no gradient.

    Source:
        Caron et al. (2020), SwAV, eq. 2; Secrets of RLHF II, section 3.1.
    """
    _temperature(tau)
    toward = normalize(prototype_CD, dim=-1).transpose(-1, -2)
    one, two = (normalize(h, dim=-1) @ toward for h in (h_ND, again_ND))
    q_one, q_two = (assignments(x.detach(), epsilon=epsilon, rounds=rounds) for x in (one, two))
    return -((q_two * log_softmax(one / tau, -1)).sum(-1) + (q_one * log_softmax(two / tau, -1)).sum(-1)) / 2


def assignments(similar_NC: Float[Tensor, "*P N C"], *, epsilon: float = 0.05,
                rounds: int = 3) -> Float[Tensor, "*P N C"]:
    """Soft assignments that use all prototypes equally: Sinkhorn and Knopp's iterations.

    Example:
        >>> q = assignments(torch.tensor([[0.9, 0.1], [0.8, 0.2]]))
        >>> q.sum(-1)
        tensor([1., 1.])
        >>> bool(q[1, 1] > q[1, 0])  # both are nearer to the first, but one of them has to take the second
        True
    """
    q = ((similar_NC - similar_NC.amax((-2, -1), keepdim=True)) / epsilon).exp() + 1e-12
    for _ in range(rounds):
        q = q / q.sum(-2, keepdim=True) / q.shape[-1]
        q = q / q.sum(-1, keepdim=True) / q.shape[-2]
    return q * q.shape[-2]


def _temperature(tau: float) -> None:
    if not tau > 0:
        raise BadInput("tau", expected="a number above 0", received=tau)


# --- the policy has moved on --------------------------------------------------------------------------


def difference(reward_GK: Float[Tensor, "G K"]) -> Float[Tensor, "G"]:
    """J = (2 / k^2) sum_(i<j) sigma(|r_i - r_j|): how well a reward tells samples of one prompt apart.

    Args:
        reward_GK: Rewards of K samples of each of G prompts.

    Raises:
        BadInput: for one sample, where J is undefined.

    Source:
        Secrets of RLHF II, section 3.2, MetaRM (eq. 10).

    Example:
        >>> difference(torch.tensor([[0.0, 0.0], [0.0, 100.0]]))  # (2 / 4) sigma(0), (2 / 4) sigma(100)
        tensor([0.2500, 0.5000])
    """
    k = reward_GK.shape[-1]
    if k < 2:
        raise BadInput("samples", expected="at least 2 of each prompt", received=k)
    i, j = torch.triu_indices(k, k, 1)
    return 2 / k**2 * torch.sigmoid((reward_GK[:, i] - reward_GK[:, j]).abs()).sum(-1)


def tie_width_for(share: float) -> float:
    """The width eta of Rao and Kupper under which equally good options tie with this probability.

    At gap 0 a tie has the probability tanh(eta / 2).

    Example:
        >>> round(tie_width_for(0.2), 3)
        0.405
    """
    if not 0 < share < 1:
        raise BadInput("share", expected="a number in (0, 1)", received=share)
    return 2 * math.atanh(share)
