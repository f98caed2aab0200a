"""A saved reward scores bit for bit as before, runs no code that the user has not seen, and is whole or absent."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plaudit
from plaudit.core import algebra
from plaudit.core.algebra import Constant, Constrained, Ensemble, Fallback, Gate, PerMember, PotentialDifference, Sum
from plaudit.core.consent import load_with_consent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError, Unsupported
from plaudit.core.functions import EnvReward, reward
from plaudit.core.reward import Reward
from plaudit.core.saving import is_saved_reward, load_reward, reward_from_spec, reward_spec, save_reward
from plaudit.core.schedules import Cosine, LagrangeMultiplier, Linear, Piecewise, TargetController
from plaudit.core.targets import load_target

CODE = Path(__file__).with_name("saved_functions.py").read_text(encoding="utf-8")


def episodes(B: int = 3, T: int = 7, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    obs, after = torch.randn(B, T, 2, generator=g), torch.randn(B, T, 2, generator=g)
    mask = torch.arange(T) < torch.tensor([T, T - 3, 2])[:B, None]
    ends = torch.zeros(B, T, dtype=torch.bool)
    ends[:, 4] = True
    return Episodes(obs=obs, action=torch.randn(B, T, generator=g), next_obs=after, terminated=ends & mask,
                    truncated=torch.zeros_like(ends), mask=mask, member=torch.arange(B) % 2,
                    env_reward=torch.randn(B, T, generator=g), info={"reward_ctrl": torch.randn(B, T, generator=g)})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with the functions in `mine.py`; returns its module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    return sys.modules[load_target("mine.py:drift").module]


def same(a: Reward, b: Reward, on: Episodes) -> bool:
    x, y = a.score(on), b.score(on)
    return (torch.equal(x.value.nan_to_num(), y.value.nan_to_num()) and torch.equal(x.known, y.known)
            and list(x.terms) == list(y.terms) and all(
                torch.equal(x.contribution(n).nan_to_num(), y.contribution(n).nan_to_num()) for n in x.terms)
            and list(x.why) == list(y.why) and (x.members is None) == (y.members is None)
            and (x.members is None or torch.equal(x.members, y.members))
            and (a.name, a.role, a.range, a.needs) == (b.name, b.role, b.range, b.needs))


def leaves_of(mine) -> list:
    return [reward(mine.drift), reward(mine.one_at_a_time, range=(-20.0, 1.0)), mine.decorated, reward(mine.twice),
            EnvReward(), Constant(0.25), mine.Scaled(0.5), reward(mine.height, name="up").with_role("watch")]


WEIGHTS = st.sampled_from([1.0, -2.5, 0.0, 0.1, Linear(0.0, 1.0), Cosine(1.0, 0.2), Piecewise([(0.0, 1.0), (0.5, 2.0)]),
                           TargetController("kl", 0.1), LagrangeMultiplier("cost", 0.2, initial=0.7)])


def trees(mine) -> st.SearchStrategy[Reward]:
    """Random compositions of all kinds."""
    leaf = st.sampled_from(leaves_of(mine))

    def grow(part):
        return st.one_of(
            st.lists(st.tuples(WEIGHTS, part), min_size=1, max_size=3).map(Sum),
            st.tuples(part, st.floats(-3, 0), st.floats(0, 3)).map(lambda x: x[0].clip(min=x[1], max=x[2])),
            part.map(lambda r: r.clip(max=1.0)),
            st.tuples(part, part).map(lambda x: Gate(*x)), st.tuples(part, part).map(lambda x: Fallback(*x)),
            st.lists(part, min_size=1, max_size=3).map(lambda x: algebra.minimum(*x)),
            st.lists(part, min_size=1, max_size=3).map(lambda x: algebra.maximum(*x)),
            st.lists(part, min_size=2, max_size=2).map(lambda x: PerMember(x)),
            st.tuples(part, part).map(lambda x: Constrained(*x, limit=0.1, multiplier=LagrangeMultiplier(
                "cost", 0.1, initial=0.5))),
            part.map(lambda r: r.named("another name").with_role("gold")),
            part.map(lambda r: r + PotentialDifference(reward(mine.height), discount=0.9)))

    return st.recursive(leaf, grow, max_leaves=6)


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # beartype looks at random items of lists
def test_every_composition_comes_back_bit_for_bit(here, tmp_path):
    on, fresh = episodes(), episodes(seed=1)
    tried: list[str] = []

    @settings(max_examples=30)
    @given(st.data())
    def check(data):
        before = data.draw(trees(here))
        before.score(on)
        before.advance(0.4, {"kl": 0.3, "cost": 0.9})
        folder = tmp_path / f"r{len(tried)}"
        save_reward(before, folder)
        tried.append(before.name)
        after = load_reward(folder)
        assert same(before, after, on) and same(before, after, fresh)
        assert reward_spec(after) == reward_spec(before)
        assert str(after.state_dict()) == str(before.state_dict())

    check()
    assert len(tried) >= 30


def test_ensembles_and_their_statistics_come_back(here, tmp_path):
    ensemble = Ensemble([reward(here.drift), reward(here.height), Constant(1.0)], name="three opinions")
    pessimist = algebra.mean(ensemble) - 0.5 * algebra.std(ensemble) + algebra.worst(ensemble)
    for i, before in enumerate([ensemble, pessimist, ensemble.named("ours")]):
        save_reward(before, tmp_path / f"e{i}")
        assert same(before, load_reward(tmp_path / f"e{i}"), episodes())


def test_a_device_reaches_the_parts_that_take_one_and_none_is_not_said(here, tmp_path):
    save_reward(2.0 * here.Placed("cuda") + reward(here.drift), tmp_path / "r")
    places = [[p.device for p in made.parts if hasattr(p, "device")]
              for made in (load_reward(tmp_path / "r"), load_reward(tmp_path / "r", device="cpu"))]
    assert places == [["here"], ["cpu"]]
    with pytest.raises(BadInput, match="device: expected a device of torch"):
        load_reward(tmp_path / "r", device="gpu")


def test_what_was_learnt_comes_back_and_goes_on(here, tmp_path):
    learnt = here.Scaled(0.5)
    learnt.scale = 1 / 3
    price = LagrangeMultiplier("cost", 0.1, rate=0.5)
    before = Constrained(2.0 * learnt, reward(here.drift), limit=0.1, multiplier=price)
    before.advance(0.1, {"cost": 0.7})
    save_reward(before, tmp_path / "out")
    after = load_reward(tmp_path / "out" / "reward.json")
    for r in (before, after):
        r.advance(0.2, {"cost": 0.9})
    assert same(before, after, episodes()) and after.multiplier.value == price.value == pytest.approx(0.7)


def test_saving_again_replaces_the_old_reward_and_its_state(here, tmp_path):
    moving = Sum([(LagrangeMultiplier("cost", 0.1, initial=1.0), Constant(1.0))])
    for step in range(3):
        moving.advance(step / 3, {"cost": 0.5})
        save_reward(moving, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert load_reward(tmp_path / "out").weights == moving.weights
    save_reward(Constant(1.0), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["reward.json"]


def test_a_full_disk_leaves_the_old_reward(here, tmp_path, monkeypatch):
    save_reward(Constant(1.0), tmp_path / "out")
    monkeypatch.setattr("os.replace", full_disk)
    for newer in (Constant(2.0), Sum([(LagrangeMultiplier("cost", 0.1), Constant(1.0))])):
        with pytest.raises(PlauditError, match="No space left"):
            save_reward(newer, tmp_path / "out")
    assert load_reward(tmp_path / "out").range == (1.0, 1.0)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["reward.json"]


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(BadInput, match="nothing was touched"):
        save_reward(Constant(1.0), tmp_path)
    with pytest.raises(BadInput, match="a folder"):
        save_reward(Constant(1.0), tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("make", "advice"), [
    (lambda mine: reward(lambda obs: obs[..., 0]), "write it as a def"),
    (lambda mine: Constant(1.0) + closure(3.0), "move it to the top of a file"),
    (lambda mine: reward(Callable()), "use a def or class at the top"),
    (lambda mine: reward(mine.drift, state="remembers"), "state_dict"),
    (lambda mine: mine.Silent(1.0), "from_spec"),
    (lambda mine: reward(__import__("functools").partial(mine.bonus, size=torch.ones(1))), "JSON"),
], ids=["lambda", "closure", "object", "memory", "class", "option"])
def test_what_cannot_be_written_down_says_how_it_could(here, tmp_path, make, advice):
    with pytest.raises(Unsupported, match=advice):
        save_reward(make(here), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def closure(size):
    def paid(obs):
        return size * obs[..., 0]

    return reward(paid)


class Callable:
    def __call__(self, obs):
        return obs[..., 0]


def test_a_function_that_has_changed_runs_only_with_consent(here, tmp_path):
    save_reward(reward(here.drift), tmp_path / "out")
    (tmp_path / "mine.py").write_text(CODE + "\nopen('ran', 'w')\n")
    with pytest.raises(BadInput, match=r"has changed; pass --trust"):
        load_reward(tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert load_reward(tmp_path / "out", trust=True).name == "drift" and (tmp_path / "ran").exists()


def test_a_function_that_lies_elsewhere_runs_only_with_consent(here, tmp_path, monkeypatch):
    save_reward(reward(here.drift), tmp_path / "out")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(BadInput, match="code below this folder"):
        load_reward(tmp_path / "out")
    assert load_reward(tmp_path / "out", trust=True).name == "drift"


def test_a_hash_that_is_missing_is_no_consent(here, tmp_path):
    file = save_reward(reward(here.drift), tmp_path / "out")
    content = json.loads(file.read_text())
    content["reward"]["sha256"] = None
    file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="the hash of its code"):
        load_reward(file)


def saved_from_a_module(name, folder, out):
    """A saved reward whose function lies in a module of that folder, which is then as good as never imported."""
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CODE + f"\nopen({str(folder / 'ran')!r}, 'w')\n")
    module = importlib.import_module(name)
    file = save_reward(reward(module.drift), out)
    assert json.loads(file.read_text())["reward"]["target"] == f"{name}:drift"
    for loaded in (name, name.partition(".")[0]):
        sys.modules.pop(loaded, None)
    (folder / "ran").unlink()
    return file, path


@pytest.mark.parametrize("name", ["my_rewards_here", "my_package_here.drifts"])
def test_a_module_below_this_folder_runs_unasked_as_long_as_it_is_the_noted_one(here, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(tmp_path))
    file, path = saved_from_a_module(name, tmp_path, tmp_path / "out")
    whole = path.read_text()
    path.write_text(whole + "\n")
    with pytest.raises(BadInput, match="has changed; pass --trust"):
        load_reward(file)
    assert not (tmp_path / "ran").exists()
    path.write_text(whole)
    assert load_reward(file).name == "drift" and (tmp_path / "ran").exists()
    for loaded in (name, name.partition(".")[0]):
        sys.modules.pop(loaded, None)


@pytest.mark.parametrize("place", ["elsewhere", "here/site-packages"])
def test_a_module_that_lies_elsewhere_or_is_installed_runs_only_with_consent(here, tmp_path, monkeypatch, place):
    folder, name = tmp_path / place, f"my_{Path(place).name.replace('-', '_')}_module"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder))
    file, path = saved_from_a_module(name, folder, tmp_path / "out")
    content = json.loads(file.read_text())
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(BadInput, match="consent to import a module"):
        load_reward(file)
    if place == "elsewhere":  # a lie about where it lay is no consent either
        shutil.copy(path, "decoy.py")
        content["reward"]["path"] = str(Path("decoy.py").resolve())
        file.write_text(json.dumps(content))
        with pytest.raises(BadInput, match="consent to import a module"):
            load_reward(file)
    assert not (folder / "ran").exists()
    assert load_reward(file, trust=True).name == "drift" and (folder / "ran").exists()
    sys.modules.pop(name, None)


def test_plaudits_own_modules_do_not_ask(tmp_path):
    from plaudit.auditing.flaws import boat_race

    save_reward(reward(boat_race.reward), tmp_path / "boat")
    assert load_reward(tmp_path / "boat").fn is boat_race.reward


@pytest.mark.parametrize("target", ["mine.py:functools.partial", "mine.py:functools", "mine.py:plaudit.reward",
                                    "plaudit.core.checkpoint:os.unlink", "plaudit.core.checkpoint:os"])
def test_only_what_a_file_defines_is_free(here, tmp_path, target):
    sha256 = reward_spec(reward(here.drift))["sha256"]
    if target.endswith("plaudit.reward"):
        assert load_with_consent({"target": target, "sha256": sha256}, trust=False)  # plaudit's own, wherever it stands
        return
    with pytest.raises(BadInput, match="something that .* defines"):
        load_with_consent({"target": target, "sha256": sha256}, trust=False)


@pytest.mark.parametrize("damage", [
    "", "{", "[]", '{"format": "plaudit.reward.1"}', '{"format": "plaudit.reward.1", "reward": {"kind": "magic"}}',
    '{"format": "plaudit.reward.1", "reward": {"kind": "sum", "name": "s", "weights": [1]}}',
    '{"format": "plaudit.reward.1", "reward": {"kind": "constant", "name": "c"}}',
    '{"format": "plaudit.reward.1", "reward": {"kind": "constant", "name": "c", "value": 1}, "state": {"file": "x"}}',
    '{"format": "plaudit.reward.1", "reward": {"kind": "of members", "statistic": "sum", "name": "c", "parts": []}}',
])
def test_damage_is_named(tmp_path, damage):
    (tmp_path / "reward.json").write_text(damage)
    with pytest.raises(BadInput):
        load_reward(tmp_path)


def test_a_state_that_was_exchanged_or_is_gone_is_named(here, tmp_path):
    moving = Sum([(LagrangeMultiplier("cost", 0.1, initial=1.0), Constant(1.0))])
    save_reward(moving, tmp_path / "a")
    moving.advance(0.5, {"cost": 3.0})
    save_reward(moving, tmp_path / "b")
    (mine,), (other,) = (list((tmp_path / n).glob("state-*")) for n in "ab")
    shutil.copy(other, mine)
    with pytest.raises(BadInput, match="has changed"):
        load_reward(tmp_path / "a")
    mine.unlink()
    with pytest.raises(BadInput, match="missing"):
        load_reward(tmp_path / "a")


def test_a_saved_reward_is_recognised_and_plaudit_offers_both(here, tmp_path):
    file = plaudit.save_reward(Constant(1.0), tmp_path / "out")
    assert is_saved_reward(file) and is_saved_reward(tmp_path / "out") and not is_saved_reward(tmp_path)
    assert plaudit.load_reward(tmp_path / "out").range == (1.0, 1.0)
    assert reward_from_spec(reward_spec(Constant(2.0))).range == (2.0, 2.0)
