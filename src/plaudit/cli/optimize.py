"""`plaudit optimize`: trains agents on a reward, saves, resumes, evaluates and films them."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from plaudit.cli.given import check_resume, json_object
from plaudit.cli.interrupts import leaving
from plaudit.cli.workers import RayOption, where
from plaudit.core.errors import BadInput
from plaudit.core.misspelt import refuse_misspelt
from plaudit.core.reward import Reward

if TYPE_CHECKING:
    from plaudit.core.episodes import Episodes
    from plaudit.optimize.rl.trained import Trained
    from plaudit.tasks.base import Task

_LONGEST_FILM = 600
_FRAME_MS = 40


@dataclass(frozen=True, kw_only=True)
class OptimizeArgs:
    """Trains a population of agents on a reward.

    Example: plaudit optimize --env CartPole-v1 --reward rewards.py:upright --population 4 --render film.gif
    """

    env: str
    """A Gymnasium id, or file.py:name or module:name of an environment class or a factory."""
    algo: Literal["ppo", "sac", "td3", "dqn"] = "ppo"
    """ppo for choices and numbers, sac and td3 for numbers, dqn for one choice."""
    reward: str | None = None
    """file.py:name or module:name of a reward or a function of obs, action, next_obs, ...; the environment's own by
    default, which is then also watched where another is trained on."""
    population: int = 1
    """How many agents to train side by side, each with seeds of its own."""
    steps: int = 100_000
    """Steps of the environment for each agent, rounded down to whole updates (of 512 steps for ppo and dqn)."""
    seed: int = 0
    """The root of all randomness."""
    out: Path | None = None
    """Checkpoints, policies, log.jsonl and summary.json go here; a new numbered folder under runs/ by default."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with the run in --out."""
    eval_episodes: int = 20
    """Episodes that each agent plays in the end; 0 for none."""
    episodes: str | None = None
    """Keep the evaluation episodes: a file *.safetensors, or a new Minari data set such as me/cartpole-v0."""
    render: Path | None = None
    """Film the best agent's first episode into this GIF."""
    device: str = "cpu"
    """Where networks, environments and data live, such as cpu or cuda."""
    log_dir: Path | None = None
    """TensorBoard curves go here, one run for each agent."""
    wandb: str | None = None
    """Curves also go to this project on Weights & Biases (pip install 'plaudit[wandb]')."""
    env_kwargs: str = "{}"
    """Arguments for the environment, as JSON."""
    config: str = "{}"
    """Options of the algorithm, as JSON, such as '{"lr": 0.0003, "hidden": [64, 64]}'."""
    on_unknown: Literal["mask", "stop"] = "mask"
    """Where the reward gives no number: leave the step out, or stop."""
    threads: int = 1
    """CPU threads of torch; more rarely help with small networks."""
    ray: RayOption = None
    """Train shards of the population on Ray, with the same numbers: on all cores of this machine, on a NUMBER of them,
    or on the cluster at an ADDRESS (auto, or host:port)."""


def optimize(args: OptimizeArgs) -> int:
    """Runs the command; returns the exit code."""
    import torch

    if "PLAUDIT_LOG" not in os.environ:
        logging.getLogger("plaudit").setLevel(logging.WARNING)
        logging.getLogger("plaudit.optimize.rl.callbacks").setLevel(logging.INFO)  # progress, where no terminal is
    if args.population < 1 or args.eval_episodes < 0 or args.threads < 1:
        raise BadInput("--population, --eval-episodes, --threads", expected="at least 1, 0 and 1",
                       received=(args.population, args.eval_episodes, args.threads))
    if args.render is not None and args.render.suffix.lower() != ".gif":
        raise BadInput("--render", expected="a file *.gif", received=str(args.render))
    if args.resume:
        check_resume(args.out, args.out is not None and _is_run(args.out))
    if args.episodes is not None:
        _check_keeping(args)
    torch.set_num_threads(args.threads)
    task, reward = _task(args), _reward(args)
    out = args.out or _next_folder(Path("runs"))
    with leaving(lambda: f"the same command with --out {out} --resume goes on" if _is_run(out) else
                 "no checkpoint was written"):
        return _train(args, task, reward, out)


def _train(args: OptimizeArgs, task: Task, reward: Reward | None, out: Path) -> int:
    from plaudit.core.checkpoint import write_text
    from plaudit.core.functions import EnvReward
    from plaudit.optimize.rl.train import train

    others = [EnvReward(name="env").with_role("watch")] if reward is not None else []
    trained = train(args.algo, task, reward=reward, others=others, population=args.population, steps=args.steps,
                    seed=args.seed, device=args.device, log_dir=args.log_dir, out=out, resume=args.resume,
                    config=_config(args), on_unknown=args.on_unknown, wandb=args.wandb, ray=where(args.ray))
    fewer = f" of the {args.steps:,} steps each (whole updates)" if trained.steps < args.steps else " steps each"
    print(f"trained {args.population} x {args.algo} on {task.name} for {trained.steps:,}{fewer}; saved in {out}")
    summary: dict[str, Any] = {"algo": args.algo, "env": args.env, "reward": args.reward, "seed": args.seed,
                               "steps": trained.steps, "population": args.population}
    returns = _evaluate(trained, args, reward, summary)
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    if args.render is not None:
        best = 0 if returns is None else int(returns.argmax())
        frames = film(trained, best, path=args.render, seed=args.seed)
        print(f"filmed agent {best}: {args.render} ({frames} frames)")
    return 0


def _task(args: OptimizeArgs) -> Task:
    from plaudit.tasks.making import make

    return make(args.env, **json_object("--env-kwargs", args.env_kwargs))


def _reward(args: OptimizeArgs) -> Reward | None:
    if args.reward is None:
        return None
    from plaudit.core.algebra import as_reward
    from plaudit.core.targets import load_target

    thing = load_target(args.reward).thing
    if not isinstance(thing, Reward) and not callable(thing):
        raise BadInput("--reward", expected="a Reward or a function", received=type(thing).__name__)
    return as_reward(thing)


def _config(args: OptimizeArgs) -> Any:
    from plaudit.optimize.rl.algorithms import algorithm
    from plaudit.optimize.rl.trained import config_of

    _, kind = algorithm(args.algo)
    options = json_object("--config", args.config)
    known = list(kind.__dataclass_fields__)
    refuse_misspelt("--config", options, known)
    for name, value in options.items():
        usual: Any = getattr(kind(), name)
        if isinstance(usual, tuple) and not isinstance(value, list):
            raise BadInput(f"--config {name}", expected=f"a list such as {list(usual)}", received=value)
        if isinstance(usual, int | float) and isinstance(value, str):
            raise BadInput(f"--config {name}", expected=f"a value such as {json.dumps(usual)}", received=repr(value))
    try:
        return config_of(kind, options)
    except TypeError as error:
        raise BadInput("--config", expected=f"values that fit {kind.__name__}", received=str(error)) from None


def _evaluate(trained: Trained, args: OptimizeArgs, reward: Reward | None, summary: dict[str, Any]) -> Any:
    """Plays the evaluation episodes, prints a line for each agent, and returns their mean returns [P]."""
    if args.eval_episodes == 0:
        return None
    from plaudit.core.functions import EnvReward
    from plaudit.core.statistics import mean_interval

    played = trained.play(episodes=args.eval_episodes, seed=args.seed)
    assert played.env_reward is not None
    if args.episodes is not None:
        _keep(played.to("cpu"), args, trained.task)
    scores = {"env": EnvReward().score(played)} | ({} if reward is None else {reward.name: reward.score(played)})
    columns = {name: score.returns()[0] for name, score in scores.items()}
    for name, score in scores.items():
        for reason, steps in score.counts().items():
            print(f"{name} is unknown at {steps} of {int(score.mask.sum())} evaluation steps: {reason}")
    for name, returns in columns.items():
        by_agent = returns.reshape(args.population, -1).double()
        summary[f"return/{name}"] = by_agent.mean(-1).tolist()
        for p, one in enumerate(by_agent):
            several = len(one) > 1 and bool(one.isfinite().all())
            shown = mean_interval(one.cpu().numpy()) if several else f"{one.mean():.1f}"
            print(f"agent {p}: {name} return {shown} over {len(one)} episodes")
    return columns["env" if reward is None else reward.name].reshape(args.population, -1).mean(-1)


def _is_run(out: Path) -> bool:
    """Whether a run left something to go on with: a checkpoint, or its division into shards."""
    return (out / "shards.json").is_file() or any(out.rglob("checkpoint.safetensors"))


def _check_keeping(args: OptimizeArgs) -> None:
    """Whether the episodes can be kept under their name, before any work."""
    assert args.episodes is not None
    if args.eval_episodes == 0:
        raise BadInput("--episodes", expected="episodes to keep", received=args.episodes, fix="raise --eval-episodes")
    if Path(args.episodes).suffix != ".safetensors":
        from plaudit.core.minari_io import new_folder

        new_folder(args.episodes)


def _keep(played: Episodes, args: OptimizeArgs, task: Task) -> None:
    assert args.episodes is not None
    if Path(args.episodes).suffix == ".safetensors":
        played.save(args.episodes)
    else:
        from plaudit.core.minari_io import to_minari

        to_minari(played, args.episodes, observation_space=task.obs_space, action_space=task.action_space,
                  description=f"{played.B} episodes of {args.population} agents trained by {args.algo} on {task.name}, "
                              f"seed {args.seed}, written by plaudit")
    print(f"kept {played.B} episodes: {args.episodes}")


def film(trained: Trained, member: int, *, path: Path, seed: int = 0) -> int:
    """Films an evaluation episode of one agent into a GIF.

    Returns:
        The number of frames; at most 600, the beginning of a longer episode.

    Raises:
        BadInput: when the task draws nothing.
    """
    from PIL import Image

    from plaudit.core.checkpoint import replacing
    from plaudit.core.seeds import Seeds
    from plaudit.tasks.rollouts import rollout

    frames: dict[int, list[Any]] = {0: []}
    seeds = Seeds(seed).child("evaluate").integers(1)
    rollout(trained.task, trained.policy(member), seeds=seeds, max_steps=min(trained.task.horizon, _LONGEST_FILM),
            frames=frames)
    pictures = [Image.fromarray(frame) for frame in frames[0] if frame is not None]
    if not pictures:
        raise BadInput("--render", expected="a task that draws itself", received=trained.task.name)
    with replacing(path) as temporary:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=_FRAME_MS, loop=0)
    return len(pictures)


def _next_folder(parent: Path) -> Path:
    taken = {p.name for p in parent.iterdir()} if parent.is_dir() else set()
    return parent / next(str(n) for n in range(1, len(taken) + 2) if str(n) not in taken)
