"""Learners, rewards that are learnt and policies of text, on a device."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from running import CASES, case, main, near
from torch import Tensor

import plaudit
from plaudit import EnvReward
from plaudit.auditing.record.running import collect, run_record
from plaudit.core.algebra import PerMember
from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.seeds import Seeds
from plaudit.feedback.fragments import sample_pairs
from plaudit.feedback.oracles import Oracle
from plaudit.feedback.records import Preference
from plaudit.learn.features import StepFeatures
from plaudit.learn.fitting import FitConfig, fit
from plaudit.learn.model import LearnedReward
from plaudit.learn.text.models import tiny_llama
from plaudit.optimize import Callback, DQNConfig, PPOConfig, SACConfig, TD3Config, Trained, train
from plaudit.optimize.align import AlignConfig, CausalPolicy, align, best_of_n, given_pairs, mine_pairs, read_given
from plaudit.optimize.hunting import learnt
from plaudit.optimize.maximise import maximise
from plaudit.optimize.rl.preference_loop import LoopConfig, PreferenceLoop
from plaudit.specify.text.functions import text_reward
from plaudit.tasks.classic import CartPole, Pendulum
from plaudit.tasks.policy import RandomPolicy
from plaudit.tasks.rollouts import rollout

SMALL: dict[str, Any] = {
    "ppo": PPOConfig(num_envs=2, rollout=32, hidden=(16,), normalise_obs=True, scale_reward=True),
    "dqn": DQNConfig(num_envs=2, hidden=(16,), warmup=64, batch=16),
    "sac": SACConfig(hidden=(16,), batch=16, warmup=100, rounds=50),
    "td3": TD3Config(hidden=(16,), batch=16, warmup=100, rounds=50),
}
PROMPTS = ["hello there", "what is this", "say a", "more words"]


class Picture(gymnasium.Env[Any, Any]):
    """A picture and two numbers; the second action pays."""

    observation_space = gymnasium.spaces.Dict({"image": gymnasium.spaces.Box(0, 255, (36, 36, 3), np.uint8),
                                               "x": gymnasium.spaces.Box(-1, 1, (2,))})
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.seen(), float(action == 1), self.at >= 10, False, {}

    def seen(self) -> dict[str, Any]:
        return {"image": self.np_random.integers(0, 255, (36, 36, 3), dtype=np.uint8), "x": np.zeros(2, np.float32)}


gymnasium.register("Picture-v0", entry_point=lambda **_: Picture(), max_episode_steps=20)


# --- learners -----------------------------------------------------------------------------------------------


def trains(algo: str, task: Any, device: str, folder: Path, *, steps: int) -> None:
    there = train(algo, task, population=2, steps=steps, config=SMALL[algo], progress=False, device=device,
                  out=folder / "run")
    here = train(algo, task, population=2, steps=steps, config=SMALL[algo], progress=False)
    near(there.play(episodes=2).action, here.play(episodes=2).action, device)
    loaded = Trained.load(folder / "run", device=device)
    near(loaded.play(episodes=2).action, Trained.load(folder / "run").play(episodes=2).action, device)


for _algo, _task, _steps in (("ppo", CartPole(), 512), ("ppo", "Pendulum-v1", 512), ("dqn", CartPole(), 300),
                             ("sac", Pendulum(), 300), ("td3", "Pendulum-v1", 300), ("dqn", "Picture-v0", 128),
                             ("ppo", "Picture-v0", 128)):
    CASES[f"{_algo} {_task}"] = partial(trains, _algo, _task, steps=_steps)


class Stop(Exception):
    """A kill."""


class Kills(Callback):
    """Stops a run after some updates."""

    def __init__(self, after: int | None) -> None:
        self.left = after

    def on_update(self, metrics: dict[str, Tensor], trainer: Any) -> bool | None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Stop
        return None


def preference_run(device: str, out: Path, *, kill: int | None = None, resume: bool = False) -> Trained:
    model = LearnedReward(StepFeatures(("obs", "action"), (3, 1)), hidden=(16,), groups=range(2), learning=True,
                          device=device)
    loop = PreferenceLoop(model, Oracle(EnvReward()), config=LoopConfig(start=100, every=100, fragment=5))
    return train("sac", Pendulum(), reward=model, callbacks=[loop, Kills(kill)], population=2, steps=300,
                 config=SMALL["sac"], progress=False, device=device, out=out, resume=resume, checkpoint_every=1)


@case
def a_killed_run_that_learns_from_preferences(device: str, folder: Path) -> None:
    try:
        preference_run(device, folder / "run", kill=4)
    except Stop:
        pass
    resumed = preference_run(device, folder / "run", resume=True)
    whole = preference_run(device, folder / "whole")
    near(resumed.play(episodes=2).action, whole.play(episodes=2).action.cpu(), device)


@case
def an_audit(device: str, folder: Path) -> None:
    plaudit.audit(CartPole(), steps=4_000, device=device)


@case
def an_audit_of_the_record(device: str, folder: Path) -> None:
    learnt._WORTH_IT = 2  # a few updates suffice here
    jobs = [{"name": "flaw:cost_only/CartPole-v1", "effort": 0.3, "seed": 0}]
    run_record(jobs, parts=folder, device=device)
    (row,) = collect(folder)
    assert row["error"] is None and row["steps"] > 0 and row["measured"]["device"] == device, row


@case
def a_reward_for_each_member(device: str, folder: Path) -> None:
    """Stored transitions scored anew, some unknown, on members whose ids do not begin at 0."""
    halves = reward(lambda obs, action: torch.where(obs[..., 0] > 0, action[..., 0], torch.nan), name="halves",
                    vectorised=True, backend="torch")
    each = PerMember([halves, EnvReward() + halves, 2 * EnvReward()])
    for algo, config in (("sac", replace(SMALL["sac"], relabel="always")), ("ppo", SMALL["ppo"])):
        there, here = (train(algo, Pendulum(), reward=each, population=[1, 2], steps=300, config=config, device=where,
                             progress=False) for where in (device, "cpu"))
        near(there.play(episodes=2).action, here.play(episodes=2).action, device)


@case
def a_search(device: str, folder: Path) -> None:
    learnt._WORTH_IT = 2  # a few updates suffice here
    found = maximise(EnvReward(), CartPole(horizon=20), 60_000, optimisers=["random", "ppo"], episodes=3, device=device)
    assert any(b.origin == "ppo" for b in found.behaviours)


@case
def a_task_that_ignores_its_device_is_named(device: str, folder: Path) -> None:
    class Stubborn(CartPole):
        def make(self, num_envs: int, *, device: str = "cpu", render: bool = False) -> Any:
            return super().make(num_envs, render=render)

    try:
        train("ppo", Stubborn(), steps=256, config=SMALL["ppo"], progress=False, device=device)
    except plaudit.BadInput as error:
        assert "task: expected observations on" in str(error), error
        return
    raise AssertionError("nobody said so")


# --- rewards that are learnt --------------------------------------------------------------------------------


@case
def preferences_over_episodes(device: str, folder: Path) -> None:
    task = CartPole()
    tilt = reward(lambda obs: abs(obs[..., 2]), vectorised=True)
    store = rollout(task, RandomPolicy(task.action_space, 0), seeds=list(range(12)))
    config = FitConfig(epochs=2)

    def fitted(store: Any, where: str | None) -> LearnedReward:
        return fit(Oracle(tilt)(sample_pairs(store, 40, length=4)), members=2, hidden=(8,), choices={"action": 2},
                   config=config, device=where).reward

    here = fitted(store, None)
    for there in (fitted(store.to(device), None), fitted(store, device)):
        assert there.device.type == torch.device(device).type
        near(there.score(store.to(device)).value, here.score(store).value, device)
        near(there.score(store).value, here.score(store).value, "cpu")


@case
def a_fit_that_goes_on(device: str, folder: Path) -> None:
    x = torch.randn(64, 2, generator=Seeds(0).torch())
    store = Episodes.of_transitions(obs=x, action=torch.zeros(64), next_obs=x)
    said = Oracle(reward(lambda obs: obs[..., 0], vectorised=True))(sample_pairs(store, 100, length=1))

    def fitted(where: str, epochs: int, out: Path, *, resume: bool = False) -> LearnedReward:
        return fit(said, members=2, hidden=(8,), config=FitConfig(epochs=epochs), out=out, resume=resume,
                   device=where).reward

    fitted(device, 2, folder / "there")
    there = fitted(device, 4, folder / "there", resume=True)
    assert there.device.type == torch.device(device).type
    near(there.net.flat.detach(), fitted("cpu", 4, folder / "here").net.flat.detach(), device)


def records(*, rated: bool) -> list[Preference]:
    """The better of two texts says good."""
    texts = [(f"good {w}", f"bad {w}") for w in ("cat", "dog", "house", "tree")] * 8
    ratings = ({"helpfulness": 3.0}, {"helpfulness": 1.0}) if rated else None
    return [Preference(options=pair if i % 3 else pair[::-1], context=f"Say thing {i}.", strength=-2 if i % 3 else 1,
                       ratings=ratings if i % 3 or ratings is None else ratings[::-1]) for i, pair in enumerate(texts)]


def fits_text(device: str, folder: Path, **options: Any) -> None:
    from plaudit.learn.text.training import fit_text

    rated = "regression" in str(options.get("loss")) or options.get("loss") == "gaussian"
    fitted = fit_text(records(rated=rated), model=tiny_llama(folder / "llama", hidden=32), out=folder / "out",
                      epochs=1, **{"lr": 5e-3, "batch": 16, "validation": 0.2, "as_chat": False, "evaluations": 1,
                                   **options})
    reward = fitted.reward()
    texts = ["Say this."] * 2, ["good cat", "bad cat"]
    there = type(reward).load(fitted.folder, device=device)
    assert torch.allclose(there.score_texts(*texts), type(reward).load(fitted.folder).score_texts(*texts), atol=1e-4)


_text: dict[str, dict[str, Any]] = {
    "head": {}, "scaled + 0.1 * contrastive": {"loss": "scaled + 0.1 * contrastive"}, "denoised": {"loss": "denoised"},
    "frozen ensemble": {"frozen": True, "ensemble": 3}, "language model": {"lm_coefficient": 0.1},
    "stages, extrapolated": {"loss": "regression > scaled", "expo": True}, "gaussian": {"loss": "gaussian"},
    "meta": {"meta": [("Say 1.", ["good cat", "bad dog"]), ("Say 2.", ["good cat", "bad dog"])]},
}
for _name, _options in _text.items():
    CASES[f"a text reward: {_name}"] = partial(fits_text, **_options)


@case
def a_text_reward_by_adapters(device: str, folder: Path) -> None:
    from plaudit.learn.text.modelling import Lora

    fits_text(device, folder, lora=Lora(rank=4, alpha=8))


@case
def a_follow_up_reward(device: str, folder: Path) -> None:
    from plaudit.feedback.text.spoken import SpokenFeedback
    from plaudit.learn.text.feedback_training import fit_follow_up
    from plaudit.learn.text.followup import FollowUpReward

    model = tiny_llama(folder / "llama", hidden=32)
    texts = ["hi there"], ["good cat"]
    there, here = (FollowUpReward.load(model, device=d).score_texts(*texts) for d in (device, "cpu"))
    assert torch.allclose(there, here, atol=1e-4)
    said = [SpokenFeedback(prompt=f"q {i}", response="good cat", feedback="Thanks!") for i in range(16)]
    fit_follow_up(said, model=model, out=folder / "out")


# --- policies of text ---------------------------------------------------------------------------------------


@text_reward
def letters(completion_text: str) -> float:
    return completion_text.count("a") + 0.01 * len(completion_text)


def aligned(device: str, folder: Path, *, algo: str, given: Any = None, lora: int | None = None,
            **options: Any) -> None:
    """Two steps, and what the device gives is what the CPU gives."""
    model, found = tiny_llama(folder / "llama", hidden=32), list[Tensor]()
    for where in (device, "cpu"):
        policy = CausalPolicy.load(model, max_tokens=8, device=where, lora=lora)
        evidence = None if given is None else given(policy)
        align(policy, None if given else letters, PROMPTS, algo=algo, steps=2, pairs=evidence, progress=False,
              config=AlignConfig(prompts=4, samples=4, lr=1e-3, **options))
        sample = CausalPolicy.load(model, max_tokens=8).sample(PROMPTS, n=1, seed=3)
        with torch.no_grad():
            found.append(policy.log_probs(sample.to(where)))
    near(found[0], found[1], device)


def doubted(policy: CausalPolicy) -> Any:
    pair = Preference(options=("good cat", "bad dog"), label=1.0)
    said = [(1.0, 1.0), (0.2, 2.0), (0.9, 0.5), (1.0, 1.0)]
    return given_pairs(policy, [replace(pair, context=p, label=label, weight=weight)
                                for p, (label, weight) in zip(PROMPTS, said, strict=True)]).evidence


def verdicts(policy: CausalPolicy) -> Any:
    return read_given(policy, [{"prompt": p, "completion": "good cat", "label": i % 2 == 0}
                               for i, p in enumerate(PROMPTS)]).evidence


_align: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("rloo", "rloo", {}), ("adapters", "rloo", {"lora": 4}), ("kl in the loss", "rloo", {
            "kl_in": "loss", "kl_loss": "exact", "rows": 3}), ("ppo", "ppo", {}), ("kto", "kto", {}),
        ("rft", "rft", {}), ("dpo, soft", "dpo", {"labels": "soft", "form": "scaled", "normalise": True}),
        ("dpo on pairs", "dpo", {"given": doubted, "form": "margin"}), ("kto on pairs", "kto", {"given": doubted}),
        ("kto on verdicts", "kto", {"given": verdicts}))
for _name, _algo, _options in _align:
    CASES[f"align: {_name}"] = partial(aligned, algo=_algo, **_options)


@case
def best_of_n_and_mined_pairs(device: str, folder: Path) -> None:
    policy = CausalPolicy.load(tiny_llama(folder / "llama", hidden=32), max_tokens=8, device=device)
    best_of_n(policy, letters, PROMPTS, n=4)
    assert len(mine_pairs(policy, letters, PROMPTS, samples=4).pairs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
