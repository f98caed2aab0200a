"""`train`: a task, a reward and an algorithm give policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.core.algebra import PerMember, as_reward
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.functions import EnvReward
from plaudit.core.reward import Reward
from plaudit.optimize.rl.algorithms import Algo, algorithm
from plaudit.optimize.rl.callbacks import Callback
from plaudit.optimize.rl.scoring import OnUnknown
from plaudit.optimize.rl.trained import Trained
from plaudit.optimize.rl.trainer import RunOptions, Trainer
from plaudit.tasks.base import Task

if TYPE_CHECKING:
    from plaudit.core.cluster import Cluster
    from plaudit.optimize.rl.auxiliary import Auxiliary
    from plaudit.optimize.rl.relabel import Relabel


def train(algo: Algo | str, task: Task | str, *, reward: Reward | Callable[..., Any] | None = None,
          others: Sequence[Reward] = (), population: int | Sequence[int] = 1, steps: int = 100_000, seed: int = 0,
          device: str = "cpu", callbacks: Sequence[Callback] = (), log_dir: str | Path | None = None,
          out: str | Path | None = None, resume: bool = False, checkpoint_every: int | None = None,
          progress: bool = True, config: Any = None, on_unknown: OnUnknown = "mask",
          relabel: Relabel | None = None, auxiliaries: Sequence[Auxiliary] = (),
          wandb: str | None = None, ray: Cluster | str | bool | None = None) -> Trained:
    """Trains a population of agents on a reward.

    All members run side by side in one set of stacked networks; each has its own seeds (and hyper-parameters, where
    the config has one number for each), so member p of a population learns the same as member p alone. The same
    seed gives the same bits on a CPU, also through an interruption and `resume`.

    Args:
        algo: `ppo` (choices and numbers), `sac` and `td3` (numbers) or `dqn` (one choice).
        task: What to learn, or a Gymnasium id.
        reward: What to learn it from; None is the environment's own reward.
        others: Rewards with the roles `watch` and `gold`: scored on the same data and logged, never trained on.
        population: How many agents; or the ids of the members to train, such as one shard of a larger population.
        steps: Steps of the environment for each agent; rounded down to whole updates.
        seed: The root of all randomness.
        device: Where networks, environments and data live.
        callbacks: Hooks, called in this order.
        log_dir: Writes TensorBoard curves of every member and `log.jsonl` here.
        out: Writes checkpoints, the trained policies and `log.jsonl` here; a new or empty folder.
        resume: Goes on from the checkpoint in `out`, or begins where there is none.
        checkpoint_every: Updates between two checkpoints (None: 20 in the run).
        progress: Shows a progress bar where the error output is a terminal.
        config: `PPOConfig`, `SACConfig`, `TD3Config` or `DQNConfig`; None is its default.
        on_unknown: `mask` leaves steps whose reward is unknown out of every loss (and no other step sees them);
            `stop` ends the run with `UnknownReward`. Both count them in the log.
        relabel: For `sac`, `td3` and `dqn`: recomputes rewards, discounts and weights of sampled transitions. None is
            chosen by `config.relabel`.
        auxiliaries: For `ppo`: further losses beside its own, each an `Auxiliary`.
        wandb: A project on Weights & Biases to log to, one run for each member (extra `wandb`); see `WandbLog`.
        ray: Trains shards of the population on Ray, with the same numbers: True for all cores of this machine, or as
            for `plaudit.core.jobs.run_jobs`. Members must be independent: no hooks, no reward that the run changes.

    Raises:
        BadInput: when an argument is out of range, `out` is not ours, or a `PerMember` lacks a reward for a member.
        Unsupported: when the algorithm cannot act in this space, or cannot honour what the reward needs.
        UnknownReward: when a reward is unknown and `on_unknown` is `stop`, or every one of the first rollout is.

    Example:
        >>> trained = train("ppo", "CartPole-v1", population=2, steps=256, progress=False)
        Traceback (most recent call last):
        plaudit.core.errors.BadInput: steps: expected at least one update of 512 steps, received 256; ...
        >>> trained = train("ppo", "CartPole-v1", population=2, steps=1024, progress=False)
        >>> trained.members
        [0, 1]
    """
    if isinstance(task, str):
        from plaudit.tasks.making import make

        task = make(task)
    device = check_device(device)
    _, config_type = algorithm(algo)
    config = config_type() if config is None else config
    if not isinstance(config, config_type):
        raise BadInput("config", expected=f"a {config_type.__name__} for {algo}", received=type(config).__name__)
    members = list(range(population)) if isinstance(population, int) else [int(m) for m in population]
    if not members or len(set(members)) < len(members) or min(members) < 0:
        raise BadInput("population", expected="a number >= 1, or different ids >= 0", received=population)
    paid = EnvReward() if reward is None else as_reward(reward)
    for each in (paid, *others):
        _refuse_members_without_reward(each, members)
    if relabel is not None and algo == "ppo":
        raise BadInput("relabel", expected="None for ppo, which scores every rollout anew", received=relabel)
    if auxiliaries and algo != "ppo":
        raise BadInput("auxiliaries", expected=f"none for {algo}", received=[a.name for a in auxiliaries])
    if ray is not None and ray is not False:
        hooks = {"callbacks": callbacks, "relabel": relabel, "auxiliaries": auxiliaries, "wandb": wandb}
        given = [name for name, value in hooks.items() if value]
        if given:
            raise Unsupported(f"{', '.join(given)} cannot travel to a worker; leave them out, or train without ray")
        from plaudit.optimize.rl.shards import train_on_ray

        return train_on_ray(algo, task, reward=paid, others=others, members=members, steps=steps, seed=seed,
                            device=device, config=config, ray=ray, on_unknown=on_unknown,
                            out=None if out is None else Path(out), log_dir=None if log_dir is None else Path(log_dir),
                            resume=resume, progress=progress, checkpoint_every=checkpoint_every)
    if wandb is not None:
        from plaudit.optimize.rl.wandb_log import WandbLog

        callbacks = [*callbacks, WandbLog(wandb, folder=log_dir)]
    options = RunOptions(log_dir=None if log_dir is None else Path(log_dir), out=None if out is None else Path(out),
                         resume=resume, checkpoint_every=checkpoint_every, progress=progress)
    trainer = Trainer(algo, task, reward=paid, others=others, members=members, steps=steps, seed=seed, device=device,
                      config=config, callbacks=callbacks, on_unknown=on_unknown, options=options,
                      learner_options={**({} if relabel is None else {"relabel": relabel}),
                                       **({"auxiliaries": auxiliaries} if auxiliaries else {})})
    return trainer.run()


def _refuse_members_without_reward(reward: Reward, members: Sequence[int]) -> None:
    if isinstance(reward, PerMember):
        reward.refuse_others(members, argument="population")
    for index, part in enumerate(reward.children()):
        shown = [m for m in members if m == index] if isinstance(reward, PerMember) else members
        _refuse_members_without_reward(part, shown)
