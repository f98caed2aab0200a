"""`align`: a policy, a reward and prompts give a policy that the reward prefers, near the one it was.

Train on one reward, watch others, and keep a gold one apart: each is a curve over the steps, with the length of the
completions and the KL to the reference beside them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from plaudit.core.checkpoint import load_state, save_state, write_text
from plaudit.core.controlled import controllers_of, costs_of
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, UnknownReward
from plaudit.core.going_on import marks_of, refuse_other_rewards
from plaudit.core.needs import Reads
from plaudit.core.reward import Reward
from plaudit.core.schedules import Controller, warn_of_unseen
from plaudit.core.score import Score
from plaudit.core.seeds import Seeds
from plaudit.core.tokens import Tokens
from plaudit.optimize.align.columns import Columns, checked, told
from plaudit.optimize.align.config import Algo, AlignConfig
from plaudit.optimize.align.dpo import Pairs
from plaudit.optimize.align.kto import Judged
from plaudit.optimize.align.policy import Policy
from plaudit.optimize.align.updates import Batch, make_update

log = logging.getLogger(__name__)
OnUnknown = Literal["mask", "stop"]
Progress = Callable[[float, str], None]
_FORMAT = "plaudit.align.1"
_FILE, _POLICY, _HISTORY = "checkpoint.safetensors", "policy.safetensors", "history.jsonl"


@dataclass(frozen=True, eq=False, kw_only=True)
class AlignResult:
    """What a run leaves: the policy, its reference, and a row of numbers for each step.

    Attributes:
        policy: the aligned policy (the object that was given, which has learnt).
        reference: the policy as it was, frozen.
        history: one row a step. Means over completions: `reward` (the returns of the train reward), `watch/NAME`,
            `gold/NAME`, `length`, `kl` (nats a completion), `entropy` (nats a token), `cut` (the share that did not
            end by itself); further `unknown` and `unknown/NAME` (completions without a known return), `beta`, `lr`
            and what the algorithm says of its step. The cost of a `Constrained` stands under the metric of its
            multiplier, as its mean over all tokens (its limit is per token). NaN where there is no number.
    """

    policy: Policy
    reference: Policy
    history: Sequence[Mapping[str, float]]
    algo: str
    config: AlignConfig
    seed: int

    def curve(self, name: str) -> list[float]:
        """One number of every step.

        Raises:
            BadInput: when no step has it.
        """
        known = sorted({n for row in self.history for n in row})
        if name not in known:
            raise BadInput("name", expected=f"one of {', '.join(known)}", received=name)
        return [row.get(name, math.nan) for row in self.history]


def align(policy: Policy, reward: Reward | None, prompts: Sequence[Any], *, algo: Algo | str = "rloo",
          watch: Sequence[Reward] = (), gold: Reward | None = None, pairs: Pairs | Judged | None = None,
          columns: Columns | None = None, reference: Policy | None = None, steps: int = 100,
          config: AlignConfig | None = None, on_unknown: OnUnknown | str = "mask", stop_after: int | None = 10,
          seed: int = 0, out: str | Path | None = None, resume: bool = False, checkpoint_every: int | None = None,
          progress: bool | Progress = True,
          on_step: Callable[[int, dict[str, float]], bool | None] | None = None) -> AlignResult:
    """Aligns a policy with a reward under a KL penalty to its reference.

    Each step samples completions of some prompts, scores them with all rewards, and moves the policy. Rewards may pay
    every token: advantages are made of [B, T]. The same seed gives the same bits on a CPU, also through a kill and
    `resume`.

    Args:
        policy: What learns, in place.
        reward: What it learns from; beside given `pairs` it is only measured, and None measures none.
        prompts: What the policy's `encode` reads; every step takes the next ones of a shuffled order.
        algo: `rloo`, `ppo`, `dpo`, `kto` or `rft`.
        watch: Rewards that are scored on the same completions and never trained on.
        gold: The reward that is really meant, scored likewise.
        pairs: For `dpo` and `kto`: given comparisons, and for `kto` also single verdicts; None compares the policy's
            own samples by the reward. With them nothing is sampled but to measure, every `config.measure_every` steps.
        columns: What the data say of each prompt, by name, as `read_asked(...).columns`; rewards get it.
        reference: What the KL is counted from; None is the policy as it is.
        steps: Steps of the run.
        config: Options.
        on_unknown: `mask` leaves completions whose reward is unknown out of the update (and out of every baseline);
            `stop` ends the run with `UnknownReward`. Both count them; none is ever paid 0.
        stop_after: After so many steps in a row in which the reward knew none of the policy's samples, the run stops:
            it would train on nothing. None never stops; given `pairs` need no reward.
        seed: The root of all randomness.
        out: Writes checkpoints, `history.jsonl` and the policy here; a new or empty folder.
        resume: Goes on from the checkpoint in `out`, or begins where there is none. Give the policy as it was in the
            beginning: it is also the reference.
        checkpoint_every: Steps between two checkpoints (None: 20 in the run).
        progress: Shows a bar where the error output is a terminal; or is told the share done and a few words.
        on_step: Called after each step with its number and row (numbers that it adds are kept); True ends the run.

    Raises:
        BadInput: when an argument is out of range, or `out` is not ours.
        UnknownReward: when a train reward is unknown and `on_unknown` is `stop`, or nothing is known for `stop_after`
            steps.
        PlauditError: when a loss is not finite: the last checkpoint stays.

    Example:
        >>> from plaudit.optimize.align.tables import TablePolicy, TableReward
        >>> reward = TableReward(torch.tensor([[0.0, 1.0]]), vocab=2)
        >>> result = align(TablePolicy(torch.zeros(1, 2)), reward, [0], steps=30,
        ...                config=AlignConfig(prompts=1, samples=8, lr=0.1), progress=False)
        >>> result.curve("reward")[0] < 0.9 < result.curve("reward")[-1]
        True
    """
    run = _Run(policy, reward, prompts, algo=algo, watch=watch, gold=gold, pairs=pairs, columns=columns,
               reference=reference, steps=steps, config=config or AlignConfig(), on_unknown=on_unknown,
               stop_after=stop_after, seed=seed)
    folder = None if out is None else Path(out)
    if folder is None and resume:
        raise BadInput("out", expected="the folder of the run to go on with", received=None)
    saved = None if folder is None else _read(folder, resume)
    if saved is not None:
        run.restore(saved)
    else:
        run.reward.advance(0.0, {})
    every = checkpoint_every or max(1, steps // 20)
    with ExitStack() as stack:
        tell = _teller(progress, stack, f"{algo} on {'given evidence' if reward is None else reward.name}")
        while run.done < steps:
            row = run.step()
            stop = on_step is not None and on_step(run.done, row)
            tell(run.done / steps, ", ".join(f"{name} {row[name]:.3g}" for name in ("loss", "reward", "kl")
                                             if math.isfinite(row.get(name, math.nan))))
            if folder is not None and (run.done % every == 0 or stop or run.done == steps):
                save_state(folder / _FILE, run.state())
            if stop:
                break
    if folder is not None:
        write_text(folder / _HISTORY, "".join(f"{_line(r)}\n" for r in run.history))
        save_state(folder / _POLICY, policy.state_dict())
    return AlignResult(policy=policy, reference=run.reference, history=run.history, algo=algo, config=run.config,
                       seed=seed)


def measure(policy: Policy, reference: Policy, prompts: Sequence[Any], rewards: Sequence[Reward], *, n: int = 1,
            columns: Columns | None = None, seed: int | Seeds = 0) -> dict[str, float]:
    """Mean returns by the rewards' names, `length` and `kl` on fresh completions; NaN where nothing is known.

    `columns` are what the rewards read of each prompt, as in `align`.

    Raises:
        BadInput: where a column is missing or has another length.
    """
    columns = checked(columns, len(prompts))
    with torch.no_grad():
        tokens = told(policy.sample(prompts, n=n, seed=seed), columns, range(len(prompts)), rewards)
        kl = policy.log_probs(tokens).sum(-1) - reference.log_probs(tokens).sum(-1)
    found = {r.name: _mean_return(r.score(tokens))[0] for r in rewards}
    return {**found, "length": float(tokens.lengths.float().mean()), "kl": float(kl.mean())}


class _Run:
    """The state of a run and one step of it."""

    def __init__(self, policy: Policy, reward: Reward | None, prompts: Sequence[Any], *, algo: Algo | str,
                 watch: Sequence[Reward], gold: Reward | None, pairs: Pairs | Judged | None,
                 columns: Columns | None, reference: Policy | None, steps: int, config: AlignConfig,
                 on_unknown: OnUnknown | str, stop_after: int | None, seed: int) -> None:
        if not isinstance(steps, int) or steps < 1:
            raise BadInput("steps", expected="an integer >= 1", received=steps)
        if on_unknown not in ("mask", "stop"):
            raise BadInput("on_unknown", expected="mask or stop", received=on_unknown)
        if not len(prompts):
            raise BadInput("prompts", expected="at least one prompt", received="none")
        if reward is None and pairs is None:
            raise BadInput("reward", expected="a reward, as there are no pairs to learn from", received=None)
        self.prompts, self.steps, self.config = list(prompts), steps, config
        self.columns = checked(columns, len(self.prompts), [r for r in (reward, *watch, gold) if r is not None])
        self.on_unknown, self.stop_after = on_unknown if reward is not None else "mask", stop_after
        for prompt in self.prompts:
            policy.encode(prompt)  # a prompt that cannot be read is refused before any work
        self.policy, self.reward, self.algo, self.seed = policy, reward or _NoReward(), algo, seed
        self.others = {**{f"watch/{r.name}": r for r in watch}, **({} if gold is None else {f"gold/{gold.name}": gold})}
        if len(self.others) < len(watch) + (gold is not None):
            raise BadInput("watch", expected="rewards with names of their own", received=[r.name for r in watch],
                           fix='reward.named("another")')
        self.reference = policy.reference() if reference is None else reference
        self.seeds = Seeds(seed).child("align")
        self.update = make_update(algo, policy, self.reference, config, prompts=self.prompts, seeds=self.seeds,
                                  pairs=pairs)
        self.identity = {"algo": algo, "config": config.to_json(), "seed": seed, "on_unknown": self.on_unknown,
                         "reward": self.reward.name, "others": list(self.others),
                         "prompts": _digest(map(repr, self.prompts)),
                         "reference": _digest_of(self.reference.state_dict())}
        self.marks = marks_of([self.reward, *watch, *([] if gold is None else [gold])])
        if self.columns:
            self.identity["columns"] = _digest(map(repr, self.columns.items()))
        if pairs is not None:
            self.identity["pairs"] = _digest_of({n: x for n, x in vars(pairs).items() if isinstance(x, Tensor)} | {
                n: x for n, x in vars(pairs.tokens).items() if isinstance(x, Tensor)})
        self.done, self.history, self.warned = 0, list[dict[str, float]](), False
        self.told = False
        costs_of(self.reward)  # refuses two costs of one name

    def step(self) -> dict[str, float]:
        """Samples, scores, learns; gives the row of the history."""
        share = self.done / self.steps
        seeds = self.seeds.child("step", self.done)
        beta, lr = self.config.beta_at(share), self.config.lr_at(share)
        measures = self.done % self.config.measure_every == 0 or self.done + 1 == self.steps
        if self.update.given is not None and not measures:
            row = dict.fromkeys(("reward", "unknown", "length", "cut", "kl", "entropy"), math.nan)
            batch = Batch.unsampled(self.update.given, beta=beta, lr=lr)
        else:
            batch, row = self._sampled(seeds, beta, lr, measures)
        row |= {"beta": beta, "lr": lr}
        moved = self.update(batch, seeds)
        row |= {**moved, "skipped": float("loss" not in moved)}
        self.done += 1
        self.history.append(row)
        self.reward.advance(self.done / self.steps, row)
        controllers = controllers_of(self.reward)
        if isinstance(self.config.beta, Controller):
            self.config.beta.update(self.done / self.steps, row)
            controllers.append(self.config.beta)
        if "loss" in moved and not self.told:
            self.told = True
            warn_of_unseen(controllers, row)
        return row

    def _sampled(self, seeds: Seeds, beta: float, lr: float, measures: bool) -> tuple[Batch, dict[str, float]]:
        """New completions with what they are paid, and the row that says so."""
        places, n = self._next_places(), self.config.samples
        tokens = self.policy.sample([self.prompts[i] for i in places], n=n, seed=seeds.child("sample"))
        tokens = told(tokens, self.columns, places)
        score = self.reward.score(tokens)
        known = score.known.all(-1)
        self._check_known(score, known)
        if self.on_unknown == "stop" and not score.all_known:
            score.require()
        with torch.no_grad():
            parts = torch.arange(tokens.B).split(self.config.rows or tokens.B)
            old = torch.cat([self.policy.log_probs(tokens[p]) for p in parts])
            theirs = torch.cat([self.reference.log_probs(tokens[p]) for p in parts])
        asked = not isinstance(self.reward, _NoReward)
        row = {"reward": _mean_return(score)[0], "unknown": float((~known).sum()) if asked else math.nan,
               "length": float(tokens.lengths.float().mean()), "cut": float(tokens.truncated.any(-1).float().mean()),
               "kl": float((old - theirs).sum(-1).mean()), "entropy": float(-old.sum() / tokens.mask.sum())}
        if measures:
            row |= self._measure(tokens)
        row = {name: _mean(values) for name, values in score.measured.items()} | row
        row |= {f"terms/{name}": _mean_return_of(score.contribution(name), known) for name in score.terms}
        paid = torch.where(known.unsqueeze(-1), score.value, 0.0).float()
        return Batch(tokens=tokens, reward_BT=paid, known=known, old_BT=old, reference_BT=theirs, beta=beta,
                     lr=lr), row

    def _measure(self, tokens: Tokens) -> dict[str, float]:
        out: dict[str, float] = {}
        for name, reward in self.others.items():
            out[name], missing = _mean_return(reward.score(tokens))
            out |= {f"unknown/{name}": float(missing)} if missing else {}
        return out

    def _check_known(self, score: Score, known: Tensor) -> None:
        """Says once why something is unknown, and stops a run that learns from nothing."""
        if isinstance(self.reward, _NoReward) or bool(known.all()):
            return
        reasons = "; ".join(f"{why} ({int(where.any(-1).sum())} times)" for why, where in [*score.why.items()][:3])
        if not self.warned:
            log.warning("%s is unknown for %d of %d completions: %s", self.reward.name, int((~known).sum()), len(known),
                        reasons)
            self.warned = True
        nothing = 1 + next((n for n, row in enumerate(reversed(self.history)) if math.isfinite(row["reward"])),
                           len(self.history))
        if self.stop_after is not None and self.update.given is None and not bool(known.any()) and \
                nothing >= self.stop_after:
            raise UnknownReward(f"{self.reward.name} was unknown for every completion of {nothing} steps in a row: "
                                f"{reasons}; mend it, or pass stop_after=None")

    def _next_places(self) -> list[int]:
        """Which prompts are next, out of an order that is shuffled anew in each pass."""
        X, out = len(self.prompts), list[int]()
        begin = self.done * self.config.prompts
        orders: dict[int, list[int]] = {}
        for place in range(begin, begin + self.config.prompts):
            turn = place // X
            if turn not in orders:
                orders[turn] = torch.randperm(X, generator=self.seeds.child("order", turn).torch()).tolist()
            out.append(orders[turn][place % X])
        return out

    # --- checkpoints ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        beta = self.config.beta
        return {"format": _FORMAT, "identity": self.identity, "marks": self.marks, "done": self.done,
                "policy": self.policy.state_dict(), "update": self.update.state_dict(),
                "reward": self.reward.state_dict(), "history": self.history,
                "beta": beta.state_dict() if isinstance(beta, Controller) else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint.

        Raises:
            BadInput: when it is one of another run.
        """
        mine: Any = json.loads(json.dumps(self.identity))
        for name, value in mine.items():
            if state["identity"].get(name) != value:
                raise BadInput(name, expected=f"what the interrupted run had: {state['identity'].get(name)}",
                               received=value, fix="resume with the same arguments (only steps may differ)")
        refuse_other_rewards(self.marks, state.get("marks"))
        self.policy.load_state_dict(state["policy"])
        self.update.load_state_dict(state["update"])
        self.reward.load_state_dict(state["reward"])
        if isinstance(self.config.beta, Controller):
            self.config.beta.load_state_dict(state["beta"])
        self.done, self.history = state["done"], list(state["history"])
        log.info("resumed at step %d of %d", self.done, self.steps)


def _mean_return(score: Score) -> tuple[float, int]:
    """The mean return of the rows where it is known, and how many are not."""
    known = score.known.all(-1)
    return _mean_return_of(score.value, known), int((~known).sum())


def _mean(values: Tensor) -> float:
    """The mean of what is known; NaN where nothing is."""
    return float(values.double().nanmean())


def _mean_return_of(value_BT: Tensor, known: Tensor) -> float:
    return float(value_BT[known].sum(-1).double().mean()) if bool(known.any()) else math.nan


class _NoReward(Reward):
    """Knows nothing: what is measured where no reward is given."""

    name = "none"

    @property
    def reads(self) -> Reads:
        return Reads()

    def evaluate(self, episodes: Episodes) -> Score:
        return Score.unknown(episodes.mask, "no reward was given")


def _read(folder: Path, resume: bool) -> dict[str, Any] | None:
    file = folder / _FILE
    if file.exists() and resume:
        state = load_state(file)
        if state.get("format") != _FORMAT:
            raise BadInput("out", expected="the checkpoint of an alignment run", received=str(file))
        return state
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("out", expected="a new or empty folder", received=str(folder),
                       fix="pass resume=True to go on with the run in it" if file.exists() else "choose another")
    return None


def _digest(parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() + b"\0")
    return found.hexdigest()[:16]


def _digest_of(state: Mapping[str, Any]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode() + b"\0")
        if isinstance(tensor, Tensor):
            dense = torch.cat([tensor.detach().cpu().flatten()])  # a slice of one may keep a stride
            found.update(dense.view(torch.uint8).numpy().tobytes() if tensor.ndim else repr(tensor.item()).encode())
    return found.hexdigest()[:16]


def _line(row: Mapping[str, float]) -> str:
    return json.dumps({k: None if math.isnan(v) else v for k, v in row.items()})


def _teller(progress: bool | Progress, stack: ExitStack, title: str) -> Progress:
    if callable(progress):
        return progress
    if not progress or not sys.stderr.isatty():
        return lambda done, text: None
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = stack.enter_context(Bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn(
        "{task.fields[said]}"), transient=True, console=Console(stderr=True)))
    task = bar.add_task(title, total=1.0, said="")
    return lambda done, text: bar.update(task, completed=done, said=text)


