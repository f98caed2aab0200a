"""One step of RLOO, PPO, DPO, KTO or rejection-sampling fine-tuning on completions that have been scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.advantages import gae, leave_one_out, whiten
from plaudit.optimize.align.best_of import winners
from plaudit.optimize.align.config import Algo, AlignConfig
from plaudit.optimize.align.dpo import Pairs, dpo_loss, pairs_of_rewards
from plaudit.optimize.align.kl import exact_kl_tokens, kl_tokens, log_probs_of
from plaudit.optimize.align.kto import Judged, kto_loss, reference_point
from plaudit.optimize.align.policy import Policy


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Completions with what they were paid."""

    tokens: Tokens
    reward_BT: Float[Tensor, "B T"]
    """0 in rows that are not known."""
    known: Bool[Tensor, "B"]
    old_BT: Float[Tensor, "B T"]
    """Log-probabilities under the policy that wrote them."""
    reference_BT: Float[Tensor, "B T"]
    beta: float
    lr: float

    @staticmethod
    def unsampled(given: Pairs | Judged, *, beta: float, lr: float) -> Batch:
        """For an update that learns from given evidence alone: one row that nothing reads."""
        one = given.tokens[torch.zeros(1, dtype=torch.int64)]
        zero = torch.zeros(one.mask.shape, device=one.mask.device)
        return Batch(tokens=one, reward_BT=zero, known=torch.ones_like(one.mask[:, 0]), old_BT=zero,
                     reference_BT=zero, beta=beta, lr=lr)

    @property
    def group(self) -> Int[Tensor, "B"]:
        group = self.tokens.group
        return torch.arange(self.tokens.B, device=self.known.device) if group is None else group

    @property
    def charged_BT(self) -> Float[Tensor, "B T"]:
        """The reward less beta times each token's log-ratio."""
        return self.reward_BT - self.beta * kl_tokens(self.old_BT, self.reference_BT)


class Update(ABC):
    """What all share: Adam, a limit on the gradient, the KL in the loss, no step on a loss that is not finite.

    Attributes:
        given: The evidence that it learns from in place of what the policy samples; None where it learns from that.
    """

    given: Pairs | Judged | None = None

    def __init__(self, policy: Policy, reference: Policy, config: AlignConfig) -> None:
        self.policy, self.reference, self.config = policy, reference, config
        self.adam = torch.optim.Adam(policy.trainable(), lr=1.0)

    @abstractmethod
    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        """Moves the policy; returns what there is to log (nothing where no row could be learnt from)."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"adam": self.adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.adam.load_state_dict(dict(state["adam"]))

    def _descend(self, rows: Int[Tensor, "M"], loss_of: Callable[[Int[Tensor, "m"]], Float[Tensor, "m"]], *,
                 share: float, lr: float) -> dict[str, float]:
        """One step on `share` times the sum of the losses of rows, a few rows at a time."""
        self.adam.zero_grad()
        total = 0.0
        for part in rows.split(self.config.rows or max(len(rows), 1)):
            losses = loss_of(part)
            if not bool(torch.isfinite(losses).all()):
                wrong = part[~torch.isfinite(losses)].tolist()
                raise PlauditError(f"the loss is not finite at rows {wrong[:8]} of the batch; the policy is as it was "
                                   "before this update, and so is the last checkpoint")
            (losses.sum() * share).backward()
            total += float(losses.detach().sum()) * share
        norm = nn.utils.clip_grad_norm_(self.policy.trainable(), self.config.max_norm)
        if not bool(torch.isfinite(norm)):
            raise PlauditError("the gradient is not finite, though the loss is; the policy has not moved")
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()
        return {"loss": total, "gradient": float(norm)}

    def _log_probs(self, batch: Batch, rows: Int[Tensor, "m"]) -> tuple[Float[Tensor, "m T"], Float[Tensor, "m T"]]:
        """Of the chosen tokens, with gradients; and beta times the KL of each where it stands in the loss."""
        tokens, config = batch.tokens[rows], self.config
        if config.kl_in == "reward" or batch.beta == 0:
            chosen = self.policy.log_probs(tokens)
            return chosen, torch.zeros_like(chosen)
        if config.kl_loss == "exact":
            mine = self.policy.log_softmax(tokens)
            with torch.no_grad():
                theirs = self.reference.log_softmax(tokens)
            return (log_probs_of(mine, tokens.action, tokens.mask),
                    batch.beta * exact_kl_tokens(mine, theirs, tokens.mask))
        chosen = self.policy.log_probs(tokens)
        return chosen, batch.beta * kl_tokens(chosen, batch.reference_BT[rows], estimator=config.kl_loss)

    def _paid(self, batch: Batch) -> Float[Tensor, "B T"]:
        return batch.charged_BT if self.config.kl_in == "reward" else batch.reward_BT

    def _share(self, tokens: Tokens, rows: Int[Tensor, "M"]) -> float:
        return 1.0 / float(tokens.mask[rows].sum() if self.config.over == "tokens" else len(rows))

    def _summed(self, loss_BT: Float[Tensor, "m T"], mask: Bool[Tensor, "m T"]) -> Float[Tensor, "m"]:
        """Over the tokens of each completion; their mean where each completion is to count the same."""
        total = torch.where(mask, loss_BT, 0.0).sum(-1)
        return total / mask.sum(-1) if self.config.over == "each" else total

    def _reference_of(self, tokens: Tokens) -> Float[Tensor, "B"]:
        """The reference's log-probabilities of given completions."""
        with torch.no_grad():
            return torch.cat([self.reference.log_probs(tokens[rows])
                              for rows in torch.arange(tokens.B).split(self.config.rows or 256)]).sum(-1)


class Rloo(Update):
    """REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, eq. 8): one unbiased step."""

    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        config, mask = self.config, batch.tokens.mask
        advantage, learns = leave_one_out(self._paid(batch), mask, group=batch.group, usable=batch.known,
                                          discount=config.discount, credit=config.credit)
        rows = torch.nonzero(learns).flatten()
        if not len(rows):
            return {}
        if config.whiten:
            advantage = whiten(advantage, mask & learns.unsqueeze(-1))

        def loss_of(part: Tensor) -> Tensor:
            chosen, kl = self._log_probs(batch, part)
            return self._summed(kl - advantage[part] * chosen, mask[part])

        return self._descend(rows, loss_of, share=self._share(batch.tokens, rows), lr=batch.lr)


class Ppo(Update):
    """Proximal policy optimisation (Schulman et al. 2017, eq. 7), with a value function and GAE over tokens."""

    def __init__(self, policy: Policy, reference: Policy, config: AlignConfig, *, features: int, seeds: Seeds) -> None:
        super().__init__(policy, reference, config)
        generator = seeds.child("value").torch()
        first, last = nn.Linear(features, config.value_hidden), nn.Linear(config.value_hidden, 1)
        with torch.no_grad():
            for layer, bound in ((first, features**-0.5), (last, 0.0)):
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()
        self.value = nn.Sequential(first, nn.Tanh(), last)
        self.value.to(policy.device)
        self.value_adam = torch.optim.Adam(self.value.parameters(), lr=config.value_lr)

    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        config, mask = self.config, batch.tokens.mask
        rows = torch.nonzero(batch.known).flatten()
        if not len(rows):
            return {}
        with torch.no_grad():
            features = self.reference.features(batch.tokens).float()
            value = self.value(features).squeeze(-1)
            advantage = gae(self._paid(batch), value, mask, discount=config.discount, trace=config.trace)
            target = advantage + value
            if config.whiten is None or config.whiten:
                advantage = whiten(advantage, mask & batch.known.unsqueeze(-1))
        size = min(config.minibatch or -(-len(rows) // 4), len(rows))
        out: dict[str, list[float]] = {}
        for epoch in range(config.epochs):
            order = rows[torch.randperm(len(rows), generator=seeds.child("minibatch", epoch).torch()).to(rows.device)]
            for part in order.split(size):
                for name, number in self._minibatch(batch, part, advantage, features, target).items():
                    out.setdefault(name, []).append(number)
        return {name: sum(numbers) / len(numbers) for name, numbers in out.items()}

    def _minibatch(self, batch: Batch, rows: Tensor, advantage: Tensor, features: Tensor,
                   target: Tensor) -> dict[str, float]:
        clip, clipped = self.config.clip, list[Tensor]()

        def loss_of(part: Tensor) -> Tensor:
            chosen, kl = self._log_probs(batch, part)
            ratio = torch.exp(chosen - batch.old_BT[part])
            gain = torch.minimum(ratio * advantage[part], ratio.clamp(1 - clip, 1 + clip) * advantage[part])
            clipped.append(((ratio - 1).abs() > clip)[batch.tokens.mask[part]].float())
            return self._summed(kl - gain, batch.tokens.mask[part])

        said = self._descend(rows, loss_of, share=self._share(batch.tokens, rows), lr=batch.lr)
        here = batch.tokens.mask[rows]
        error = (self.value(features[rows]).squeeze(-1) - target[rows])[here].square().mean()
        self.value_adam.zero_grad()
        error.backward()
        self.value_adam.step()
        return {**said, "value_error": float(error.detach()), "clipped": float(torch.cat(clipped).mean())}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "value": dict(self.value.state_dict()),
                "value_adam": self.value_adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.value.load_state_dict(dict(state["value"]))
        self.value_adam.load_state_dict(dict(state["value_adam"]))


class Dpo(Update):
    """Direct preference optimisation: on given pairs, or on the policy's own samples compared by the reward."""

    def __init__(self, policy: Policy, reference: Policy, config: AlignConfig, *, pairs: Pairs | None) -> None:
        super().__init__(policy, reference, config)
        self.given = self.pairs = None if pairs is None else pairs.to(policy.device)
        if self.pairs is not None:
            self.theirs = self._reference_of(self.pairs.tokens)

    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        if self.pairs is None:
            pairs, without = pairs_of_rewards(batch.tokens, batch.reward_BT.sum(-1), batch.known,
                                              labels=self.config.labels)
            chosen, reference = torch.arange(len(pairs)), batch.reference_BT.sum(-1)
        else:
            pairs, without, reference = self.pairs, 0, self.theirs
            chosen = torch.randperm(len(pairs), generator=seeds.child("pairs").torch())[:self.config.prompts]
        if not len(chosen):
            return {"without_pair": float(without)}
        wins = list[Tensor]()
        strength, counts = pairs.strength[chosen], pairs.counts[chosen]
        if self.config.form == "scaled" and self.config.normalise:  # over the step, whatever the parts
            strength = strength / strength.mean().clamp(min=1e-8)

        def loss_of(part: Tensor) -> Tensor:
            index = chosen[part]
            few = pairs.take(index)
            log_p = self.policy.log_probs(few.tokens).sum(-1)
            rows = torch.cat([pairs.first[index], pairs.second[index]])
            implicit = batch.beta * (log_p - reference[rows])
            gap = implicit[:len(part)] - implicit[len(part):]
            wins.append((gap.detach() > 0).float())
            return counts[part] * dpo_loss(gap, label=few.label, strength=strength[part], form=self.config.form)

        said = self._descend(torch.arange(len(chosen)), loss_of, share=_share_of(counts), lr=batch.lr)
        return {**said, "accuracy": float(torch.cat(wins).mean()), "without_pair": float(without)}


class Kto(Update):
    """Kahneman-Tversky optimisation: on given verdicts, or on the best and the worst of the policy's own samples.

    A step reads as many completions as one of DPO: two for each of `config.prompts`.
    """

    def __init__(self, policy: Policy, reference: Policy, config: AlignConfig, *, judged: Judged | None) -> None:
        super().__init__(policy, reference, config)
        self.given = self.judged = None if judged is None else judged.to(policy.device)
        if self.judged is not None:
            self.theirs = self._reference_of(self.judged.tokens)

    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        config, without = self.config, 0
        if self.judged is None:
            pairs, without = pairs_of_rewards(batch.tokens, batch.reward_BT.sum(-1), batch.known)
            judged = Judged.of_pairs(pairs)
            theirs = batch.reference_BT.sum(-1)[torch.stack([pairs.first, pairs.second], 1).flatten()]
        else:
            chosen = torch.randperm(len(self.judged), generator=seeds.child("pairs").torch())[:2 * config.prompts]
            judged, theirs = self.judged.take(chosen), self.theirs[chosen]
        if len(judged) < 2:
            return {"without_pair": float(without)}
        z0 = reference_point(self.policy, self.reference, judged.tokens, rows=config.rows)
        desirable, counts = judged.desirable, judged.counts
        ratio = torch.zeros(len(judged), device=theirs.device)

        def loss_of(part: Tensor) -> Tensor:
            mine = self.policy.log_probs(judged.tokens[part]).sum(-1) - theirs[part]
            ratio[part] = mine.detach()
            loss = kto_loss(mine, desirable[part], z0=z0, beta=batch.beta, desirable_weight=config.desirable_weight,
                            undesirable_weight=config.undesirable_weight)
            return counts[part] * loss

        said = self._descend(torch.arange(len(judged)), loss_of, share=_share_of(counts), lr=batch.lr)
        return {**said, "z0": z0, "accuracy": float((desirable == (ratio > z0)).float().mean()),
                "without_pair": float(without)}


class Rft(Update):
    """Rejection-sampling fine-tuning: the best of each prompt's samples are imitated; each step is a round.

    A completion whose reward is unknown never wins, and a prompt without a known one is left out. There is no penalty:
    one round to the end gives the distribution of best-of-N, whose KL is at most `best_of_kl(N)`.

    Source:
        Touvron et al. (2023), Llama 2, arXiv 2307.09288, section 3.2.3; the decoder of Qiu et al. (2024), arXiv
        2402.10184, with N from 4 to 512.
    """

    def __call__(self, batch: Batch, seeds: Seeds) -> dict[str, float]:
        config, paid = self.config, batch.reward_BT.sum(-1)
        best, asked = winners(paid, batch.known, config.samples)
        count = {"without_winner": float(batch.tokens.B // config.samples - len(asked))}
        if not len(best):
            return count
        mask, size = batch.tokens.mask, min(config.minibatch or -(-len(best) // 4), len(best))

        def loss_of(part: Tensor) -> Tensor:
            return self._summed(-self.policy.log_probs(batch.tokens[part]), mask[part])

        out: dict[str, list[float]] = {}
        for epoch in range(config.epochs):
            order = best[torch.randperm(len(best), generator=seeds.child("minibatch", epoch).torch()).to(best.device)]
            for part in order.split(size):
                said = self._descend(part, loss_of, share=self._share(batch.tokens, part), lr=batch.lr)
                for name, number in said.items():
                    out.setdefault(name, []).append(number)
        return {**{name: sum(numbers) / len(numbers) for name, numbers in out.items()}, **count,
                "best": float(paid[best].mean())}


def _share_of(counts: Float[Tensor, "N"]) -> float:
    """What makes a mean of a weighted sum."""
    return 1.0 / max(float(counts.sum()), 1e-8)


def make_update(algo: Algo | str, policy: Policy, reference: Policy, config: AlignConfig, *, prompts: Sequence[Any],
                seeds: Seeds, pairs: Pairs | Judged | None) -> Update:
    """The step of an algorithm.

    Raises:
        BadInput: for an unknown one, or evidence that it does not read.
    """
    if pairs is not None and algo not in ("dpo", "kto"):
        raise BadInput("pairs", expected="None, as only dpo and kto learn from what is given",
                       received=f"{len(pairs)} of them")
    if pairs is not None and not len(pairs):
        raise BadInput("pairs", expected="at least one", received="none")
    if algo == "rloo":
        return Rloo(policy, reference, config)
    if algo == "ppo":
        width = reference.features(policy.asked(prompts[:1])).shape[-1]
        return Ppo(policy, reference, config, features=width, seeds=seeds)
    if algo == "dpo":
        if isinstance(pairs, Judged):
            raise BadInput("pairs", expected="pairs, as dpo compares two completions", received="single verdicts",
                           fix='algo="kto"')
        return Dpo(policy, reference, config, pairs=pairs)
    if algo == "kto":
        judged = Judged.of_pairs(pairs) if isinstance(pairs, Pairs) else pairs
        if judged is not None and len(judged) < 2:
            raise BadInput("pairs", expected="at least 2 completions that are desirable or not", received=len(judged))
        return Kto(policy, reference, config, judged=judged)
    if algo == "rft":
        return Rft(policy, reference, config)
    raise BadInput("algo", expected="rloo, ppo, dpo, kto or rft", received=algo)
