"""Runs: kill and resume, logs, callbacks, files."""

from __future__ import annotations

import json
import logging
import os
import signal

import pytest
import torch
from tiny_worlds import CopyTheBit, CopyTwoBits, PayPerStep, Quadratic, Repeats

import plaudit
from plaudit.core.checkpoint import load_state
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.schedules import Linear
from plaudit.optimize import (
    Callback,
    DQNConfig,
    EvalCallback,
    PPOConfig,
    SACConfig,
    TD3Config,
    Trained,
    read_log,
    train,
)
from plaudit.optimize.rl.callbacks import ProgressLog
from plaudit.optimize.rl.collect import broken

SMALL = {"num_envs": 4, "hidden": (8,)}
OFF = {**SMALL, "collect": 4, "rounds": 2, "warmup": 64, "batch": 16, "update_ratio": 0.25}
CONFIGS = {
    "ppo": PPOConfig(**SMALL, rollout=8, minibatches=2),
    "ppo with normalisers": PPOConfig(**SMALL, rollout=8, minibatches=2, normalise_obs=True, scale_reward=True),
    "sac": SACConfig(**OFF, actor_every=3),
    "td3": TD3Config(**OFF),
    "dqn": DQNConfig(**OFF, n_step=2, capacity=100, target_every=3),
}


class Killed(Exception):
    pass


class KillAt(Callback):
    def __init__(self, update):
        self.update, self.count = update, 0

    def on_update(self, metrics, trainer):
        self.count += 1
        if trainer.updates == self.update:
            raise Killed

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def moving_reward():
    still = plaudit.reward(lambda obs: obs[..., 0], name="still", vectorised=True, backend="torch")
    return plaudit.EnvReward() + Linear(1.0, -1.0) * still


def everything(folder):
    return load_state(folder / "checkpoint.safetensors")


def differences(a, b, place=""):
    if isinstance(a, dict):
        return [d for k in {*a, *b} for d in differences(a.get(k), b.get(k), f"{place}/{k}")]
    if isinstance(a, list):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{place}/{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [place]


@pytest.mark.parametrize("name, moving", [(name, moving) for name in CONFIGS for moving in (False, True)])
def test_a_killed_and_resumed_run_equals_one_that_was_not_bit_for_bit(name, moving, tmp_path):
    config = CONFIGS[name]
    task = Quadratic() if name in ("sac", "td3", "ppo with normalisers") else CopyTheBit()

    def run(folder, kill_at, resume=False):
        train(name[:3], task, reward=moving_reward() if moving else None, population=2, steps=32 * 10, progress=False,
              config=config, callbacks=[KillAt(kill_at)], out=tmp_path / folder, checkpoint_every=4, resume=resume)

    run("whole", 99)
    with pytest.raises(Killed):
        run("parts", 7)
    assert everything(tmp_path / "parts")["updates"] == 4
    with pytest.raises(Killed):
        run("parts", 9, resume=True)
    run("parts", 99, resume=True)
    whole, parts = everything(tmp_path / "whole"), everything(tmp_path / "parts")
    assert whole["updates"] == 10 and differences(whole, parts) == []
    policies = [load_state(tmp_path / folder / "policy.safetensors") for folder in ("whole", "parts")]
    assert differences(*policies) == []
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "parts/log.jsonl").read_text()
    assert json.loads((tmp_path / "whole/log.jsonl").read_text().splitlines()[-1])["update"] == 10


class Holed(Quadratic):
    """Environment 2 shows NaN once; `look` 1 is the reset, then come two for each step: its end, and what follows."""

    name, horizon = "Holed", 10

    def __init__(self, look, *, choices=False, named=False):
        self.look, self.looks = look, 0
        self.action_space = CopyTheBit.action_space if choices else Quadratic.action_space
        self.obs_names = ("height",) if named else ()

    def see(self, uniform):
        self.looks += 1
        return uniform.clone().index_fill(0, torch.tensor(2), torch.nan) if self.looks == self.look else uniform

    def pay(self, uniform, action):
        return torch.zeros(len(uniform))

    def terminates(self, time, action):
        return torch.zeros_like(time, dtype=torch.bool)


@pytest.mark.parametrize("name", ["ppo", "sac", "td3", "dqn"])
@pytest.mark.parametrize("look, named, says", [
    (1, False, "environment 2 of Holed before step 1 is nan in column 0:"),
    (12, True, "environment 2 of Holed after step 6 is nan in height:")])
def test_an_observation_that_is_no_number_is_warned_of_once_by_step_and_column(name, look, named, says, caplog):
    train(name, Holed(look, choices=name == "dqn", named=named), steps=32 * 3, progress=False, config=CONFIGS[name])
    said = [r.getMessage() for r in caplog.records if "the observation" in r.getMessage()]
    assert len(said) == 1 and says in said[0]


def test_the_warning_of_a_nan_comes_before_the_error_that_it_makes(caplog):
    class Strict(Holed):
        def pay(self, uniform, action):
            if not action.isfinite().all():
                raise ValueError("an action is NaN")
            return super().pay(uniform, action)

    with pytest.raises(ValueError, match="an action is NaN"):
        train("ppo", Strict(13), steps=64, population=2, progress=False, config=CONFIGS["ppo"])
    assert "environment 2 of member 0 of Holed before step 7 is nan" in caplog.text
    caplog.clear()
    train("ppo", Strict(10_000), steps=64, progress=False, config=CONFIGS["ppo"])
    assert "observation" not in caplog.text


def test_a_broken_number_in_nested_observations_is_found_by_its_path_and_large_ones_are_not_broken():
    pictures, large = torch.zeros(2, 3, 4, 5), torch.full((2, 3), 3e38)
    seen = {"see": {"eye": pictures}, "bits": torch.zeros(2, 3, dtype=torch.long), "far": large}
    hole = pictures.clone()
    hole[1, 2, 3, 4] = -torch.inf
    assert broken(seen, seen) is None
    assert broken(seen, {**seen, "see": {"eye": hole}}) == (1, 2, False, "-inf in column 3, 4 of see/eye")
    assert broken({**seen, "far": large / 0}, seen) == (0, 0, True, "inf of far")


class CtrlC(Callback):
    """The signal comes in the middle of an update, when its steps are made and nothing is learnt from them."""

    def __init__(self, update):
        self.update = update

    def on_rollout(self, rollout, trainer):
        if trainer.updates == self.update:
            self.update = -1
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_ctrl_c_waits_for_the_update_and_leaves_a_checkpoint_of_it(name, tmp_path, caplog):
    def run(folder, stop_at, resume=False):
        train(name, CopyTheBit() if name == "ppo" else Quadratic(), steps=320, progress=False, config=CONFIGS[name],
              callbacks=[CtrlC(stop_at)], checkpoint_every=4, out=tmp_path / folder, resume=resume)

    run("whole", 99)
    with pytest.raises(KeyboardInterrupt):
        run("parts", 6)
    assert everything(tmp_path / "parts")["updates"] == 7 and "once more stops at once" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run("parts", 99, resume=True)
    assert differences(everything(tmp_path / "whole"), everything(tmp_path / "parts")) == []
    with pytest.raises(KeyboardInterrupt):
        train(name, CopyTheBit() if name == "ppo" else Quadratic(), steps=320, progress=False, config=CONFIGS[name],
              callbacks=[CtrlC(2)])


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr("plaudit.optimize.rl.trainer.ProgressLog", lambda: ProgressLog(every_s=0.0))
    with caplog.at_level(logging.INFO, logger="plaudit"):
        train("ppo", CopyTheBit(), steps=64, config=CONFIGS["ppo"])
    assert [r.message.split(", return")[0] for r in caplog.records if " of 64 steps" in r.message] == [
        "ppo on CopyTheBit: 32 of 64 steps", "ppo on CopyTheBit: 64 of 64 steps"]


def test_half_of_the_state_would_be_noticed(tmp_path):
    """The broken variant: a run that begins again with the trained parameters alone is another run."""
    config = CONFIGS["dqn"]
    whole = train("dqn", CopyTheBit(), steps=320, config=config, out=tmp_path / "a", progress=False)
    train("dqn", CopyTheBit(), steps=320, config=config, out=tmp_path / "b", progress=False, seed=1)
    state = everything(tmp_path / "b")
    state["learner"]["actor"] = everything(tmp_path / "a")["learner"]["actor"]
    assert differences(state, everything(tmp_path / "a"))
    assert whole.steps == 320


def test_a_reward_that_reads_the_past_goes_on_in_mid_episode(tmp_path):
    def run(folder, kill_at, resume=False):
        train("ppo", CopyTheBit(), reward=Repeats(), steps=32 * 6, progress=False, config=CONFIGS["ppo"],
              callbacks=[KillAt(kill_at)], out=tmp_path / folder, checkpoint_every=1, resume=resume)

    run("whole", 99)
    with pytest.raises(Killed):
        run("parts", 4)
    run("parts", 99, resume=True)
    assert differences(everything(tmp_path / "whole"), everything(tmp_path / "parts")) == []


def test_a_task_that_cannot_be_saved_begins_new_episodes_and_says_so(tmp_path, caplog):
    class Fleeting(CopyTheBit):
        saveable = False

    kw = {"steps": 32 * 6, "progress": False, "config": CONFIGS["ppo"], "out": tmp_path / "run", "checkpoint_every": 2}
    with pytest.raises(Killed):
        train("ppo", Fleeting(), callbacks=[KillAt(3)], **kw)
    with caplog.at_level(logging.WARNING):
        trained = train("ppo", Fleeting(), callbacks=[KillAt(99)], resume=True, **kw)
    assert "cannot be saved in mid-episode" in caplog.text and trained.steps == 192


def test_resuming_asks_for_the_same_run(tmp_path):
    kw = {"progress": False, "config": CONFIGS["ppo"], "out": tmp_path / "run"}
    train("ppo", CopyTheBit(), steps=64, **kw)
    with pytest.raises(BadInput, match="new or empty folder"):
        train("ppo", CopyTheBit(), steps=128, **kw)
    with pytest.raises(BadInput, match="seed: expected what the interrupted run had: 0"):
        train("ppo", CopyTheBit(), steps=128, seed=5, resume=True, **kw)
    with pytest.raises(BadInput, match="rewards"):
        train("ppo", CopyTheBit(), steps=128, reward=moving_reward(), resume=True, **kw)
    assert train("ppo", CopyTheBit(), steps=128, resume=True, **kw).steps == 128
    with pytest.raises(BadInput, match="out"):
        train("ppo", CopyTheBit(), steps=128, resume=True, progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="new or empty folder"):
        train("ppo", CopyTheBit(), steps=128, **{**kw, "out": tmp_path / "other"}, resume=True)


def test_a_run_that_was_killed_in_its_first_checkpoint_begins_again(tmp_path):
    kw = {"steps": 32 * 3, "progress": False, "config": CONFIGS["ppo"]}
    train("ppo", CopyTheBit(), out=tmp_path / "whole", **kw)
    struck = tmp_path / "struck"
    struck.mkdir()
    (struck / "log.jsonl").write_text((tmp_path / "whole/log.jsonl").read_text().splitlines()[0][:40])
    (struck / ".checkpoint.safetensors.3731cff0.tmp").write_bytes(b"half of it")
    train("ppo", CopyTheBit(), out=struck, resume=True, **kw)
    assert differences(everything(tmp_path / "whole"), everything(struck)) == []
    assert (struck / "log.jsonl").read_text() == (tmp_path / "whole/log.jsonl").read_text()


def curves(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_term_of_every_reward_is_logged_for_every_member(tmp_path):
    parts = plaudit.reward(lambda obs, action: {"bit": obs[..., 0], "cost": -1.0 * action}, name="parts",
                           terms={"bit": 2.0, "cost": 0.5}, vectorised=True, backend="torch")
    ones = plaudit.reward(lambda action: 1.0 * action, name="ones", vectorised=True, backend="torch")
    others = [plaudit.EnvReward(name="env").with_role("watch"), ones.with_role("gold")]
    train("ppo", CopyTheBit(), reward=parts, others=others, population=2, steps=32 * 5, progress=False,
          config=CONFIGS["ppo"], log_dir=tmp_path)
    rows = read_log(tmp_path)
    assert [r["steps"] for r in rows] == [32, 64, 96, 128, 160] and len(rows[0]["reward/train/parts"]) == 2
    for p in range(2):
        found = curves(tmp_path / f"member_{p}")
        for tag in ("term/train/parts/bit", "term/train/parts/cost", "term/watch/env/match", "term/gold/ones/ones",
                    "reward/train/parts", "episode/watch/env", "episode/gold/ones", "episode/env_return",
                    "episode/length", "unknown/train/parts", "loss/policy", "policy/entropy"):
            assert tag in found, tag
        bit, cost, total = (dict(found[f"{k}"]) for k in ("term/train/parts/bit", "term/train/parts/cost",
                                                          "reward/train/parts"))
        for step in bit:
            assert bit[step] + cost[step] == pytest.approx(total[step], abs=1e-6)
        ones, costs = dict(found["term/gold/ones/ones"]), dict(found["term/train/parts/cost"])
        assert costs[32] == pytest.approx(-0.5 * ones[32])
        assert dict(found["episode/length"])[96] == 10


def test_curves_go_on_after_a_kill(tmp_path):
    kw = {"steps": 32 * 6, "progress": False, "config": CONFIGS["ppo"], "out": tmp_path / "run", "checkpoint_every": 2,
          "log_dir": tmp_path / "log"}
    with pytest.raises(Killed):
        train("ppo", CopyTheBit(), callbacks=[KillAt(4)], **kw)
    train("ppo", CopyTheBit(), callbacks=[KillAt(99)], resume=True, **kw)
    assert [r["update"] for r in read_log(tmp_path / "log")] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in curves(tmp_path / "log/member_0")["loss/policy"]] == [32, 64, 96, 128, 160, 192]


def test_others_must_be_watch_or_gold_and_have_names_of_their_own():
    reward = plaudit.EnvReward()
    with pytest.raises(BadInput, match="different names"):
        train("ppo", CopyTheBit(), others=[reward.with_role("watch")], progress=False)
    with pytest.raises(BadInput, match="watch or gold"):
        train("ppo", CopyTheBit(), others=[reward.named("other")], progress=False)


def test_callbacks_see_the_run_and_can_stop_it(tmp_path):
    calls = []

    class Watch(Callback):
        def on_start(self, trainer):
            calls.append("start")

        def on_rollout(self, rollout, trainer):
            calls.append(("rollout", rollout.episodes.B, rollout.episodes.T, rollout.episodes.member.tolist()))

        def on_update(self, metrics, trainer):
            calls.append("update")
            metrics["mine"] = torch.tensor([1.0, 2.0])
            return trainer.updates == 2

        def on_end(self, trainer):
            calls.append("end")

    trained = train("ppo", CopyTheBit(), population=[4, 7], steps=3200, progress=False, config=CONFIGS["ppo"],
                    callbacks=[Watch()], out=tmp_path / "run")
    rollout = ("rollout", 8, 8, [4, 4, 4, 4, 7, 7, 7, 7])
    assert calls == ["start", rollout, "update", rollout, "update", "end"] and trained.steps == 64
    assert read_log(tmp_path / "run")[-1]["mine"] == [1.0, 2.0]


def test_evaluation_during_the_run_scores_whole_episodes_and_stops(tmp_path):
    whole = plaudit.reward(lambda obs: float(len(obs)), time="episode", name="whole", backend="torch")
    look = EvalCallback(every=2, episodes=3, rewards=[whole], stop_at=9.0)
    train("ppo", CopyTheBit(), steps=20_000, progress=False, callbacks=[look], out=tmp_path / "run",
          config=PPOConfig(num_envs=8, rollout=32, hidden=(16,), lr=0.02))
    assert look.history[-1]["eval/return"][0] >= 9 and look.history[-1]["steps"] < 20_000
    assert read_log(tmp_path / "run")[1]["eval/whole"] == [10.0]


@pytest.mark.parametrize("name", ["ppo with normalisers", "sac", "dqn"])
def test_a_saved_policy_is_the_same_policy(name, tmp_path):
    task = CopyTheBit() if name == "dqn" else Quadratic()
    trained = train(name[:3], task, population=2, steps=320, progress=False, config=CONFIGS[name])
    trained.save(tmp_path)
    loaded = Trained.load(tmp_path, task=task)
    assert loaded.config == trained.config and loaded.members == [0, 1]
    obs = task.make(6).reset(list(range(6)))
    for deterministic in (True, False):
        for member, rows in ((0, 3), (1, 3), (None, 6)):
            a, b = (t.policy(member, deterministic=deterministic, seed=1) for t in (trained, loaded))
            assert torch.equal(*(p.act(obs[:rows], p.start(rows), step=0)[0] for p in (a, b)))
    both, one = trained.policy(None), trained.policy(1)
    torch.testing.assert_close(both.act(obs, both.start(6), step=0)[0][3:], one.act(obs[3:], one.start(3), step=0)[0])
    assert torch.equal(*(t.evaluate(episodes=3, deterministic=False) for t in (trained, loaded)))
    with pytest.raises(BadInput, match="pass task="):
        Trained.load(tmp_path)


def test_policies_of_a_task_with_a_spec_load_by_themselves(tmp_path):
    trained = train("ppo", "CartPole-v1", steps=64, progress=False, config=CONFIGS["ppo"])
    trained.save(tmp_path)
    assert torch.equal(Trained.load(tmp_path).evaluate(episodes=2), trained.evaluate(episodes=2))


def test_samples_of_a_stochastic_policy_depend_on_seed_row_and_step_alone():
    trained = train("ppo", CopyTheBit(), steps=64, progress=False, config=CONFIGS["ppo"])
    policy, obs = trained.policy(deterministic=False, seed=3), torch.zeros(50, 1)
    carry = policy.start(50)
    first = policy.act(obs, carry, step=0)[0]
    assert 0 < int(first.sum()) < 50 and not torch.equal(first, policy.act(obs, carry, step=1)[0])
    assert torch.equal(first[:10], policy.act(obs[:10], policy.start(10), step=0)[0])


def test_evaluate_takes_another_reward():
    trained = train("ppo", CopyTheBit(), population=2, steps=64, progress=False, config=CONFIGS["ppo"])
    ones = plaudit.reward(lambda action: 0.0 * action + 1.0, vectorised=True, backend="torch")
    assert trained.evaluate(episodes=4, reward=ones).tolist() == [[10.0] * 4] * 2
    with pytest.raises(BadInput, match="episodes"):
        trained.evaluate(episodes=0)
    with pytest.raises(BadInput, match="member"):
        trained.policy(2)


def test_rewards_of_groups_are_refused():
    class Group(plaudit.Reward):
        needs = plaudit.Needs(across="group")

        def evaluate(self, episodes):
            raise AssertionError

    with pytest.raises(Unsupported, match="samples of one prompt"):
        train("ppo", CopyTheBit(), reward=Group(), progress=False)


def test_a_reward_across_the_batch_sees_one_member_at_a_time():
    seen = []

    class Rank(plaudit.Reward):
        needs = plaudit.Needs(across="batch", fields=frozenset({"action"}))

        def evaluate(self, episodes):
            seen.append(set(episodes.member.tolist()))
            return plaudit.Score.of(episodes.action.float() - episodes.action.float().mean(), mask=episodes.mask)

    train("ppo", CopyTheBit(), reward=Rank(), population=2, steps=32, progress=False, config=CONFIGS["ppo"])
    assert seen == [{0}, {1}]


PAYS = "def pays(obs):\n    return 2.0 * obs[..., 0]\n"


def test_a_run_does_not_go_on_with_another_reward_of_the_same_name(tmp_path):
    from plaudit.core.checkpoint import save_state
    from plaudit.core.targets import load_target

    def run(place="rewards.py", code=PAYS, weight=1.0, more=0, watched="pays", **options):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(code)
        pays = plaudit.reward(load_target(f"{tmp_path / place}:pays").thing)
        other = load_target(f"{tmp_path / place}:{watched}").thing
        train("ppo", CopyTheBit(), reward=(weight * pays).named("paid"), steps=32 * (2 + more), progress=False,
              others=[plaudit.reward(other, name="seen").with_role("watch")], config=CONFIGS["ppo"],
              out=tmp_path / "run", **options)

    run()
    run(more=1, resume=True)
    run(more=2, resume=True, place="elsewhere/rewards.py")
    before = (tmp_path / "run/checkpoint.safetensors").read_bytes()
    with pytest.raises(BadInput, match="reward paid: .*received one whose file has changed since"):
        run(more=3, resume=True, code=PAYS.replace("2.0", "-2.0"))
    with pytest.raises(BadInput, match="reward paid: .*received another one of this name"):
        run(more=3, resume=True, weight=3.0)
    both = PAYS + "\n\ndef pays_not(obs):\n    return -obs[..., 0]\n"
    with pytest.raises(BadInput, match="reward paid"):
        run(more=3, resume=True, code=both, watched="pays_not")
    assert (tmp_path / "run/checkpoint.safetensors").read_bytes() == before
    older = {name: value for name, value in everything(tmp_path / "run").items() if name != "marks"}
    save_state(tmp_path / "run/checkpoint.safetensors", older)
    run(more=3, resume=True, weight=3.0)
    assert everything(tmp_path / "run")["updates"] == 5


def test_policies_do_not_play_where_observations_or_actions_have_another_form():
    trained = train("ppo", CopyTheBit(), steps=32, progress=False, config=CONFIGS["ppo"])
    with pytest.raises(BadInput, match=r"task.obs_space: expected .*Box.*received Dict"):
        trained.play(episodes=2, task=CopyTwoBits())
    with pytest.raises(BadInput, match=r"task.action_space: expected .*Discrete.*received Box"):
        trained.play(episodes=2, task=Quadratic())
    assert trained.play(episodes=2, task=PayPerStep()).B == 2
