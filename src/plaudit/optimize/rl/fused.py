"""The fused engine of PPO: rollouts, advantages and updates as compiled loops on the CPU (extra `fast`)."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.episodes import Episodes
from plaudit.core.extras import require
from plaudit.core.stacked import PopulationMLP
from plaudit.optimize.rl.collect import Collector, Rollout
from plaudit.optimize.rl.heads import Categorical, Gaussian
from plaudit.optimize.rl.spaces import ObsEncoder
from plaudit.tasks.arrays import ArrayBatch

if TYPE_CHECKING:
    from plaudit.optimize.rl.learner import Actor
    from plaudit.optimize.rl.ppo import PPO, Data

_NEEDED = ("numba", "threadpoolctl")
_HEADS = {Categorical: 0, Gaussian: 1}
_ACTIVATIONS = {"tanh": 0, "relu": 1}


def out_of_scope(ppo: PPO) -> list[str]:
    """What of this learner the compiled loops do not know; empty where they can be used."""
    c = ppo.config
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    checks = [
        (bool(missing), f"{' and '.join(missing)} not installed (pip install 'plaudit[fast]')"),
        (ppo.device.type != "cpu", f"device {ppo.device}"),
        (c.activation not in _ACTIVATIONS, f"activation {c.activation}"),
        (c.layer_norm, "layer_norm"),
        (bool(ppo.auxiliaries), f"auxiliaries {[a.name for a in ppo.auxiliaries]}"),
        (type(ppo.actor.head) not in _HEADS, f"head {type(ppo.actor.head).__name__}"),
        (not _plain(ppo), "networks that are not plain perceptrons"),
    ]
    return [reason for found, reason in checks if found]


def _plain(ppo: PPO) -> bool:
    nets = [ppo.actor.net, ppo.critic]
    return all(type(net) is PopulationMLP for net in nets) and len(ppo.adam.params) == len(nets)


def rollout(ppo: PPO, collector: Collector) -> Rollout | None:
    """A rollout made by the compiled loop; None where the task is not written there, or a reward must see each step."""
    from plaudit.optimize.rl import fused_rollout
    from plaudit.tasks.classic import compiled as classic

    batch, actor, T = collector.batch, ppo.actor, ppo.config.rollout
    task = classic.description(collector.task)
    plain = type(batch) is ArrayBatch and batch.xp is np and batch.autoreset and type(actor.encoder) is ObsEncoder
    if task is None or not plain or collector.scorer.streaming:
        return None
    assert isinstance(batch, ArrayBatch) and isinstance(collector.obs, Tensor)
    net, head, B = actor.net, actor.head, collector.B
    (state, elapsed, episode, root, seed), obs = batch.memory(), collector.obs.clone()
    D, K = obs.shape[1], head.actions
    seen, following, raw, action = (torch.empty(B, T, n) for n in (D, D, K, K))
    out, reward = torch.empty(B, T, head.outputs), torch.empty(B, T)
    terminated, truncated = (torch.empty(B, T, dtype=torch.bool) for _ in range(2))
    _one_thread(
        fused_rollout.rollout, *task, collector.task.horizon, state, elapsed, episode, root, seed, obs.numpy(),
        _array(net.flat), np.array(net.sizes), _ACTIVATIONS[ppo.config.activation], _HEADS[type(head)], _choices(head),
        _array(head.noise(ppo.noise, T, ppo.N)), *_moments(actor, D), *_action_bounds(ppo),
        *(x.numpy() for x in (seen, following, raw, action, out, reward, terminated, truncated)))
    shape = (B, T, *ppo.action_map.shape)
    action = action.reshape(shape) if ppo.action_map.choices is None else action.long().reshape(shape)
    batch.moved(action[:, -1])
    collector.obs = obs
    info = {"is_success": terminated.clone()} if task[0] in classic.ENDS_IN_SUCCESS else {}
    episodes = Episodes(obs=seen, action=action, next_obs=following, terminated=terminated, truncated=truncated,
                        mask=torch.ones(B, 1, dtype=torch.bool).expand(-1, T), env_reward=reward, info=info,
                        member=collector.member)
    return collector.record(episodes, {"raw": raw, "out": out})


def act(ppo: PPO, x: Float[Tensor, "P N D"], noise: Float[Tensor, "P N K"]) -> tuple[Tensor, Tensor]:
    """Raw actions [P, N, K] and outputs [P, N, O] of all policies, for tasks that no loop knows."""
    from plaudit.optimize.rl import fused_rollout

    net, head = ppo.actor.net, ppo.actor.head
    raw, out = torch.empty(noise.shape), torch.empty(*noise.shape[:2], head.outputs)
    _one_thread(fused_rollout.act, _array(x), _array(net.flat), np.array(net.sizes),
                _ACTIVATIONS[ppo.config.activation], _HEADS[type(head)], _choices(head), _array(noise),
                np.empty(noise.shape[1] * sum(net.sizes), np.float32), out.numpy(), raw.numpy())
    return raw, out


def prepare(ppo: PPO, rollout: Rollout, reward: Float[Tensor, "P N T"], known: Tensor | None) -> Data:
    """Values, advantages and log-probabilities of a rollout, ready to learn from."""
    from plaudit.optimize.rl import fused_rollout
    from plaudit.optimize.rl.ppo import Data

    e, T, critic = rollout.episodes, ppo.config.rollout, ppo.critic
    x, next_x = ppo.actor.encode_steps(e.obs), ppo.actor.encode_steps(e.next_obs)
    M = x.shape[1]
    flat = lambda y: y.reshape(ppo.P, M, *y.shape[2:])  # noqa: E731
    raw, out = flat(rollout.extras["raw"]).to(x.dtype), flat(rollout.extras["out"])
    steps = torch.empty(ppo.P, 5, M, dtype=x.dtype)
    reward = reward.to(x.dtype) if known is None else torch.where(known, reward, 0.0).to(x.dtype)
    here = torch.ones_like(e.terminated) if known is None else known
    _one_thread(
        fused_rollout.prepare, *map(_array, (x, next_x, out, raw, reward.reshape(ppo.P, M), flat(e.terminated),
                                             flat(e.truncated), here.reshape(ppo.P, M))),
        T, _array(critic.flat), np.array(critic.sizes), _ACTIVATIONS[ppo.config.activation],
        _HEADS[type(ppo.actor.head)], _choices(ppo.actor.head), _array(ppo.discount.double()),
        _array(ppo.gae_lambda.double()), np.empty(fused_rollout.CHUNK * sum(critic.sizes), _array(x).dtype),
        _array(steps))
    log_prob, advantage, target, value, weight = steps.unbind(1)
    return Data(x, raw, log_prob, advantage, target, value, None if known is None else weight)


def update(ppo: PPO, data: Data, lr: Float[Tensor, "P"]) -> Float[Tensor, "P 6"]:
    """All epochs of the update, in place.

    Returns:
        Means over all minibatches: policy loss, value loss, entropy, KL, share clipped, norm of the gradient.
    """
    from plaudit.optimize.rl import fused_kernels

    c, net, critic, adam = ppo.config, ppo.actor.net, ppo.critic, ppo.adam
    weight = torch.ones_like(data.value) if data.weight is None else data.weight
    steps = torch.stack([data.log_prob, data.advantage, data.target, data.value, weight], 1)
    rates = torch.stack([lr, ppo.clip, ppo.entropy_coef, ppo.value_coef, ppo.max_grad_norm], -1).double()
    sums = torch.zeros(ppo.P, fused_kernels.NUMBERS, dtype=torch.float64)
    sizes = np.array(net.sizes), np.array(critic.sizes)
    room = fused_kernels.room_for(data.x.shape[1], c.minibatches, *sizes, data.x.shape[2] + data.raw.shape[2],
                                  _array(data.x).dtype)
    _one_thread(
        fused_kernels.update, _array(data.x), _array(data.raw.to(data.x.dtype)), _array(steps),
        ppo.noise.permutations(c.epochs, data.x.shape[1]).numpy(), c.minibatches, _array(net.flat),
        _array(critic.flat), *map(_array, (adam.mean[0], adam.square[0], adam.mean[1], adam.square[1], adam.count)),
        *sizes, _ACTIVATIONS[c.activation], _HEADS[type(ppo.actor.head)],
        _choices(ppo.actor.head), _array(rates), c.normalise_advantage, -1.0 if c.target_kl is None else c.target_kl,
        -1.0 if c.clip_value is None else c.clip_value, *adam.betas, adam.eps, room,
        _array(sums))
    return sums.to(data.x.dtype)


def _moments(actor: Actor, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """What `Actor.encode` subtracts, divides by and limits to."""
    if actor.moments is None:
        return np.zeros((actor.P, size)), np.ones((actor.P, size)), math.inf
    return _array(actor.moments.mean), _array(actor.moments.scale), actor.moments.clip


def _action_bounds(ppo: PPO) -> tuple[np.ndarray, ...]:
    """Factor, centre, low and high of `ActionMap.to_env`."""
    a = ppo.action_map
    if a.choices is None:
        return _array(a.scale), _array(a.centre), _array(a.low), _array(a.high)
    one = torch.ones(a.actions)
    return _array(one), _array(a.first.to(one.dtype).reshape(-1)), _array(-math.inf * one), _array(math.inf * one)


def _one_thread(loop: Callable[..., Any], *arguments: Any) -> None:
    """Calls a loop while its matrix products, too small to be shared out, keep to one thread.

    So its numbers do not depend on how many cores there are, and cores do not spin for one another.
    """
    with _blas().limit(limits=1):
        loop(*arguments)


@functools.cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  (whose library the loops call)

    return require("threadpoolctl", extra="fast").ThreadpoolController().select(user_api="blas")


def _choices(head: Any) -> np.ndarray:
    return np.array(head.choices if isinstance(head, Categorical) else [head.actions])


def _array(x: Tensor) -> np.ndarray:
    """The tensor's own memory."""
    return x.detach().contiguous().numpy()
