"""Proximal policy optimisation (Schulman et al. 2017) for a population."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.misspelt import Options
from plaudit.core.normalise import RunningMoments
from plaudit.core.seeds import Seeds
from plaudit.core.tree import Tree, tree_map
from plaudit.optimize.rl import fused
from plaudit.optimize.rl.attention import PopulationAttention, entities_of
from plaudit.optimize.rl.auxiliary import Auxiliary
from plaudit.optimize.rl.collect import Collector, Rollout
from plaudit.optimize.rl.heads import Categorical, Gaussian
from plaudit.optimize.rl.learner import Actor, Learner, Metrics
from plaudit.optimize.rl.losses import (
    approximate_kl,
    gae,
    normalise_advantage,
    ppo_clip_loss,
    value_loss,
    weighted_mean,
)
from plaudit.optimize.rl.networks import Activation
from plaudit.optimize.rl.optimiser import PerMember, PopulationAdam, per_member
from plaudit.optimize.rl.scoring import Scorer
from plaudit.optimize.rl.vision import population_net
from plaudit.tasks.base import Task

Engine = Literal["auto", "torch", "fused"]
Network = Literal["perceptron", "attention"]
_WORTH_IT = 1_000_000
"""From how many passes of a member's steps through the update `auto` takes the fused engine: some 6 s of work for one
member. Loading compiled code costs under 1 s; making it, once on a machine, 10 to 15 s. Nothing but the config and the
number of steps decides, so that shards of a population decide alike."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig(Options):
    """Options of PPO. Those typed `float | Sequence[float]` take one number, or one for each member.

    Example:
        >>> PPOConfig(lr=(1e-3, 3e-4)).lr
        (0.001, 0.0003)
    """

    num_envs: int = 8
    """Environments of each member."""
    rollout: int = 64
    """Steps of each environment between two updates."""
    epochs: int = 8
    """How often the data of a rollout is gone through."""
    minibatches: int = 2
    """Into how many parts it is cut each time."""
    lr: PerMember = 2e-3
    """Step size of Adam; larger bodies and networks want less (3e-4)."""
    anneal_lr: bool = True
    """Whether the step size falls linearly to 0."""
    discount: PerMember = 0.99
    """The discount."""
    gae_lambda: PerMember = 0.95
    """The lambda of the advantage estimates."""
    clip: PerMember = 0.2
    """How far the ratio of probabilities may move from 1."""
    entropy_coef: PerMember = 0.0
    """The weight of the entropy bonus."""
    value_coef: PerMember = 0.5
    """The weight of the squared error of the values."""
    max_grad_norm: PerMember = 0.5
    """The largest norm of each member's gradient."""
    target_kl: float | None = None
    """A member stops its update where its KL divergence exceeds 1.5 times this (nats)."""
    clip_value: float | None = None
    """How far a value may move in one update before its loss stops caring (None: freely)."""
    normalise_advantage: bool = True
    """Whether advantages are standardised in each minibatch of each member."""
    normalise_obs: bool = False
    """Whether observations are standardised by running moments; the first rollout only measures them."""
    scale_reward: bool = False
    """Whether rewards are divided by the running standard deviation of their discounted sums."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and value."""
    activation: Activation = "tanh"
    """What lies between the layers."""
    layer_norm: bool = False
    """Whether hidden layers are normalised."""
    network: Network = "perceptron"
    """`attention` looks at the things that the task's `entities` name before the hidden layers, in their width."""
    log_std: float = 0.0
    """Initial log standard deviation of continuous actions, in units of half the action range."""
    engine: Engine = "auto"
    """`torch` learns by autograd; `fused` in compiled loops, faster on a CPU (extra `fast`); `auto` takes `fused` where
    it can and the run is long enough to pay for loading it."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "rollout", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise BadInput(f"config.{name}", expected="an integer >= 1", received=getattr(self, name))
        if self.engine not in (engines := get_args(Engine)):
            raise BadInput("config.engine", expected=f"one of {', '.join(engines)}", received=self.engine)
        if self.network not in (networks := get_args(Network)):
            raise BadInput("config.network", expected=f"one of {', '.join(networks)}", received=self.network)
        if self.minibatches > self.num_envs * self.rollout:
            raise BadInput("config.minibatches", received=self.minibatches,
                           expected=f"at most num_envs * rollout = {self.num_envs * self.rollout}")


@dataclass(frozen=True)
class Data:
    """A rollout ready to learn from; tensors [P, M, ...], M = N * T, in one matrix so that a shuffle is one gather."""

    x: Tensor
    raw: Tensor
    log_prob: Tensor
    advantage: Tensor
    target: Tensor
    value: Tensor
    weight: Tensor | None
    extra: tuple[Tensor, ...] = ()
    """What the auxiliaries want to know, each [P, M, E]."""

    def packed(self) -> Tensor:
        columns = [self.log_prob, self.advantage, self.target, self.value]
        columns += [] if self.weight is None else [self.weight]
        return torch.cat([self.x, self.raw.to(torch.float32), *self.extra, torch.stack(columns, -1)], -1)

    def unpack(self, block: Tensor) -> Data:
        widths = [part.shape[-1] for part in (self.x, self.raw, *self.extra)]
        x, raw, *extra, rest = block.split([*widths, block.shape[-1] - sum(widths)], -1)
        log_prob, advantage, target, value, *weight = rest.unbind(-1)
        return Data(x, raw, log_prob, advantage, target, value, weight[0] if weight else None, tuple(extra))


class PPO(Learner):
    """PPO with separate policy and value networks; see `PPOConfig`.

    Args:
        config: The options.
        task: What to learn.
        seeds: One tree for each member.
        device: Where networks and data live.
        auxiliaries: Losses to add.
    """

    config: PPOConfig

    def __init__(self, config: PPOConfig, task: Task, *, seeds: Sequence[Seeds], device: str = "cpu",
                 auxiliaries: Sequence[Auxiliary] = ()) -> None:
        super().__init__(config, task, seeds=seeds, device=device)
        choices, K = self.action_map.choices, self.action_map.actions
        head = Categorical(choices) if choices is not None else Gaussian(K)
        shared: dict[str, Any] = {"generators": self.init_generators, "activation": config.activation,
                                  "layer_norm": config.layer_norm, "device": device}
        free = 0 if choices is not None else K
        D = self.encoder.size
        if config.network == "attention":
            build = partial(PopulationAttention, entities=entities_of(task))
        else:
            build = partial(population_net, self.encoder.pictures)
        net = build((D, *config.hidden, head.outputs - free), output_gain=0.01, free_outputs=free,
                    free_value=config.log_std, **shared)
        self.critic = build((D, *config.hidden, 1), **shared)
        moments = RunningMoments(self.encoder.size, population=self.P, device=device) if config.normalise_obs else None
        self.actor = Actor(encoder=self.encoder, net=net, head=head, action_map=self.action_map, moments=moments)
        self.return_moments = None
        if config.scale_reward:
            self.return_moments = RunningMoments(1, population=self.P, clip=float("inf"), device=device)
        self.auxiliaries = list(auxiliaries)
        if len({a.name for a in self.auxiliaries}) < len(self.auxiliaries):
            raise BadInput("auxiliaries", expected="different names", received=[a.name for a in self.auxiliaries])
        own = [weights for a in self.auxiliaries
               for weights in a.start(self, [s.child("auxiliary", a.name).torch() for s in seeds])]
        self.fused = False
        """Whether the fused engine is at work."""
        self.own = {f"auxiliary_{i}": w for i, w in enumerate(own)}
        self.adam = PopulationAdam([net.flat, self.critic.flat, *own])
        self.discounted = torch.zeros(self.P, self.N, dtype=torch.float64, device=device)
        """The discounted sum of rewards of each row so far, for the scale of rewards."""
        self.measured = torch.zeros((), dtype=torch.bool)
        """Whether the observations have been measured."""
        for name in ("lr", "discount", "gae_lambda", "clip", "entropy_coef", "value_coef", "max_grad_norm"):
            high = 1.0 if name in ("discount", "gae_lambda") else float("inf")
            setattr(self, name, per_member(f"config.{name}", getattr(config, name), self.P, device=device, high=high))

    lr: Tensor
    discount: Tensor
    gae_lambda: Tensor
    clip: Tensor
    entropy_coef: Tensor
    value_coef: Tensor
    max_grad_norm: Tensor

    @property
    def steps_per_iteration(self) -> int:
        return self.config.num_envs * self.config.rollout

    def prepare(self, scorer: Scorer, *, planned_steps: int) -> None:
        super().prepare(scorer, planned_steps=planned_steps)
        wanted = self.config.engine
        long = planned_steps * self.config.epochs >= _WORTH_IT
        self._use_fused(wanted == "fused" or (wanted == "auto" and long and not fused.out_of_scope(self)))

    def _use_fused(self, use: bool) -> None:
        reasons = fused.out_of_scope(self) if use else []
        if reasons:
            raise Unsupported(f"the fused engine does not cover this run: {'; '.join(reasons)}. Use engine='torch', or "
                              "'auto', which takes the fused one where it can")
        self.fused = use

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "engine": "fused" if self.fused else "torch"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        engine = state.get("engine", "torch")
        if self.config.engine not in ("auto", engine):
            raise BadInput("config.engine", expected=f"auto, or what the interrupted run had: {engine}",
                           received=self.config.engine)
        self._use_fused(engine == "fused")

    def parts(self) -> Mapping[str, Any]:
        parts = {"critic": self.critic.flat, "adam": self.adam, "discounted": self.discounted,
                 "measured": self.measured, **self.own}
        return parts if self.return_moments is None else {**parts, "return_moments": self.return_moments}

    def forget_episodes(self) -> None:
        self.discounted.zero_()

    def iterate(self, collector: Collector, *, progress: float) -> Metrics:
        rollout = self._collect(collector)
        if self.actor.moments is not None and not self.measured:
            self._measure(rollout)
            self.measured.fill_(True)
            return {}
        data = self._prepare(rollout)
        lr = self.lr * (1 - progress) if self.config.anneal_lr else self.lr
        metrics = self._update(data, lr)
        if self.actor.moments is not None:
            self._measure(rollout)
        return metrics

    @torch.no_grad()
    def _collect(self, collector: Collector) -> Rollout:
        actor = self.actor
        if self.fused and (made := fused.rollout(self, collector)) is not None:
            return made
        noise_T = actor.head.noise(self.noise, self.config.rollout, self.N).unbind(1)

        def act(obs: Tree, t: int) -> tuple[Tensor, dict[str, Tensor]]:
            if self.fused:
                raw, out = fused.act(self, actor.encode(obs), noise_T[t])
            else:
                out = actor.net(actor.encode(obs))
                raw = actor.head.sample(out, noise_T[t])
            return actor.to_env(raw), {"raw": raw.flatten(0, 1), "out": out.flatten(0, 1)}

        return collector.collect(self.config.rollout, act)

    def _measure(self, rollout: Rollout) -> None:
        flat = tree_map(lambda x: x.reshape(-1, *x.shape[2:]), rollout.episodes.obs)
        assert self.actor.moments is not None
        self.actor.moments.update(self.encoder(flat).reshape(self.P, -1, self.encoder.size))

    @torch.no_grad()
    def _prepare(self, rollout: Rollout) -> Data:
        e, T = rollout.episodes, self.config.rollout
        grid = lambda x: x.reshape(self.P, self.N, T)  # noqa: E731
        known = None if rollout.score.all_known else grid(rollout.score.known)
        if self.fused:
            reward = self._scaled(grid(rollout.score.value), grid(e.terminated | e.truncated), known)
            return fused.prepare(self, rollout, reward, known)
        x = self.actor.encode_steps(e.obs)
        value = self.critic(x).view(self.P, self.N, T)
        if bool(e.truncated.any()):
            next_value = self.critic(self.actor.encode_steps(e.next_obs)).view(self.P, self.N, T)
        else:
            last = self.critic(self.actor.encode(tree_map(lambda leaf: leaf[:, -1], e.next_obs)))
            next_value = torch.cat([value[..., 1:], last], -1)
        reward = self._scaled(grid(rollout.score.value).to(value.dtype), grid(e.terminated | e.truncated), known)
        advantage = gae(reward=reward, value=value, next_value=next_value, terminated=grid(e.terminated),
                        truncated=grid(e.truncated), discount=self.discount.view(-1, 1, 1),
                        gae_lambda=self.gae_lambda.view(-1, 1, 1), known=known)
        flat = lambda x: x.reshape(self.P, self.N * T, *x.shape[3:])  # noqa: E731
        raw, out = (flat(rollout.extras[k].unflatten(0, (self.P, self.N))) for k in ("raw", "out"))
        log_prob, _ = self.actor.head.log_prob_and_entropy(out, raw)
        extra = [a.targets(rollout, x) for a in self.auxiliaries]
        if known is not None:
            extra = [torch.where(flat(known).unsqueeze(-1), target, 0.0) for target in extra]
        return Data(x, raw, log_prob, flat(advantage), flat(advantage + value), flat(value),
                     None if known is None else flat(known).to(value.dtype), tuple(extra))

    def _scaled(self, reward: Float[Tensor, "P N T"], done: Tensor, known: Tensor | None) -> Float[Tensor, "P N T"]:
        """Rewards over the running standard deviation of their discounted sums, which begin anew with each episode.

        A step whose reward is unknown is passed over: the sum stays as it is, neither discounted nor added to. (As a 0
        it would draw the sum towards 0; to begin anew after it would measure the lengths of what is known between.)
        """
        if self.return_moments is None:
            return reward
        discount, total, sums = self.discount.double().unsqueeze(-1), self.discounted, []
        for t, (r, ended) in enumerate(zip(reward.double().unbind(-1), done.unbind(-1), strict=True)):
            longer = total * discount + r
            total = longer if known is None else torch.where(known[..., t], longer, total)
            sums.append(total)
            total = torch.where(ended, 0.0, total)
        self.discounted.copy_(total)
        column = lambda x: x.reshape(self.P, -1, 1)  # noqa: E731
        self.return_moments.update(column(torch.stack(sums, -1)), mask=None if known is None else known.flatten(1))
        return self.return_moments.normalise(column(reward), centre=False).reshape(reward.shape)

    def _update(self, data: Data, lr: Float[Tensor, "P"]) -> Metrics:
        if self.fused:
            numbers = fused.update(self, data, lr)
        else:
            numbers = self._update_by_autograd(data, lr)
        names = ("loss/policy", "loss/value", "policy/entropy", "policy/kl", "policy/clipped",
                 *(f"loss/auxiliary/{a.name}" for a in self.auxiliaries), "grad/norm")
        metrics = dict(zip(names, numbers.unbind(-1), strict=True))
        unexplained = (data.target - data.value).var(-1) / data.target.var(-1).clamp(min=1e-12)
        return {**metrics, "value/explained": 1 - unexplained, "lr": lr}

    def _update_by_autograd(self, data: Data, lr: Float[Tensor, "P"]) -> Float[Tensor, "P _"]:
        """The means over all minibatches of what `_loss` measures, and of the norm of the gradient."""
        M, count = data.x.shape[1], self.config.minibatches
        packed = data.packed().flatten(0, 1)
        offset = torch.arange(self.P, device=self.device).view(-1, 1) * M
        active = torch.ones(self.P, dtype=torch.bool, device=self.device) if self.config.target_kl else None
        totals: list[Tensor] = []
        for order in self.noise.permutations(self.config.epochs, M).unbind(1):
            shuffled = packed[(order + offset).flatten()].view(self.P, M, -1)
            for block in shuffled.tensor_split(count, 1):
                loss, numbers = self._loss(data.unpack(block))
                if active is not None and self.config.target_kl:
                    active = active & (numbers[3] <= 1.5 * self.config.target_kl)
                loss.sum().backward()
                norm = self.adam.step(lr=lr, max_norm=self.max_grad_norm, active=active)
                totals.append(torch.stack([*numbers, norm]))
        return torch.stack(totals).mean(0).T

    def _loss(self, d: Data) -> tuple[Float[Tensor, "P"], list[Tensor]]:
        out, value = self.actor.net(d.x), self.critic(d.x).squeeze(-1)
        log_prob, entropy = self.actor.head.log_prob_and_entropy(out, d.raw)
        log_ratio, clip = log_prob - d.log_prob, self.clip.unsqueeze(-1)
        advantage = normalise_advantage(d.advantage, d.weight) if self.config.normalise_advantage else d.advantage
        policy = weighted_mean(ppo_clip_loss(log_ratio, advantage, clip), d.weight)
        error = weighted_mean(value_loss(value, d.target, old_value=d.value, clip=self.config.clip_value), d.weight)
        bonus = weighted_mean(entropy, d.weight)
        loss = policy + 0.5 * self.value_coef * error - self.entropy_coef * bonus
        others = [weighted_mean(a.loss(d.x, d.raw, target), d.weight)
                  for a, target in zip(self.auxiliaries, d.extra, strict=True)]
        for other in others:
            loss = loss + other
        with torch.no_grad():
            ratio = log_ratio.detach()
            kl = weighted_mean(approximate_kl(ratio), d.weight)
            clipped = weighted_mean(((ratio.exp() - 1).abs() > clip).to(ratio.dtype), d.weight)
        return loss, [policy.detach(), error.detach(), bonus.detach(), kl, clipped, *(o.detach() for o in others)]
