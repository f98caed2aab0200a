from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from plaudit.core.check import check
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, PlauditError
from plaudit.core.functions import EnvReward, reward
from plaudit.core.limits import TimedOut, call_within
from plaudit.core.score import Score
from plaudit.core.targets import load_target


def batch(lengths: tuple[int, ...] = (4, 7, 2), D: int = 3, seed: int = 0) -> Episodes:
    g = torch.Generator().manual_seed(seed)
    r = lambda *s: torch.randn(*s, generator=g)  # noqa: E731
    return Episodes.cat([Episodes.of_steps(obs=r(n, D), action=r(n, 1), next_obs=r(n, D), env_reward=r(n))
                         for n in lengths])


def all_unknown(score: Score) -> bool:
    return not bool(score.known[score.mask].any())


def norm_of(e: Episodes) -> Tensor:
    return torch.where(e.mask, e.obs.norm(dim=-1), 0.0)  # type: ignore[union-attr]


WAYS: dict[str, tuple[Any, bool, str]] = {
    "torch, batched": (lambda obs: torch.linalg.norm(obs, dim=-1), True, "torch"),
    "numpy, batched": (lambda obs: np.linalg.norm(obs, axis=-1), True, "numpy"),
    "numpy, one transition": (lambda obs: np.linalg.norm(obs), False, "numpy"),
    "python, one transition": (lambda obs: float(sum(x * x for x in obs)) ** 0.5, False, "numpy"),
    "torch, one transition": (lambda obs: torch.dot(obs, obs).sqrt(), False, "torch"),
    "an if, one transition": (lambda obs: np.linalg.norm(obs) if obs[0] > 0 else (obs**2).sum() ** 0.5, False, "numpy"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_a_norm_gives_the_same_numbers(way: str) -> None:
    fn, vectorised, backend = WAYS[way]
    r, e = reward(fn, name="norm"), batch()
    assert torch.allclose(r(e).float(), norm_of(e), atol=1e-5)
    assert r.mode is not None and (r.mode.vectorised, r.mode.backend) == (vectorised, backend)
    assert ("to vectorise" in r.how) == (not vectorised)


@pytest.mark.parametrize("D", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("N", [1, 2, 5, 6, 7])
def test_a_batch_as_long_as_the_features_is_not_mistaken(D: int, N: int) -> None:
    """A function that returns one number per feature looks right only where N equals D."""
    e = batch((N,), D=D)
    score = reward(lambda obs: obs.sum(0) if obs.ndim == 2 else obs.sum()).score(e)
    assert torch.allclose(score.value, e.obs.sum(-1), atol=1e-5)  # type: ignore[union-attr]


def test_a_function_that_normalises_over_the_batch_is_called_row_by_row() -> None:
    r, e = reward(lambda obs: obs[..., 0] / (1 + np.abs(obs[..., 0]).max())), batch()
    value = r(e)
    assert r.mode is not None and not r.mode.vectorised and "mixes rows" in r.how
    first = e.obs[..., 0]  # type: ignore[index]
    assert torch.allclose(value.float(), torch.where(e.mask, first / (1 + first.abs()), 0.0), atol=1e-6)


def test_a_dictionary_is_terms_and_a_pair_is_a_value_with_terms() -> None:
    e = batch()
    terms = reward(lambda obs, action: {"speed": obs[..., 0], "cost": -(action**2).sum(-1)},
                   terms={"speed": 2.0, "cost": 0.5})
    score = terms.score(e)
    assert torch.allclose(score.value, 2 * score.terms["speed"] + 0.5 * score.terms["cost"])
    pair = reward(lambda obs: (obs[..., 0].clip(max=0), {"raw": obs[..., 0]})).score(e)
    assert set(pair.terms) == {"raw"} and float(pair.value.max()) <= 0
    assert all_unknown(reward(lambda obs: {"a": obs[..., 0]}, terms=["a", "b"]).score(e))
    for names in ({"a"}, {"a": 1}.keys()):
        assert list(reward(lambda obs: {"a": obs[..., 0]}, terms=names).score(e).terms) == ["a"]


def test_none_is_unknown_and_not_zero() -> None:
    def judge(obs: np.ndarray) -> float | None:
        return None if obs[0] > 0 else 1.0

    score, e = reward(judge).score(batch()), batch()
    positive = (e.obs[..., 0] > 0) & e.mask  # type: ignore[index]
    assert torch.equal(~score.known, positive)
    assert score.counts() == {"the function returned None": int(positive.sum())}


def test_values_outside_the_declared_range_are_unknown() -> None:
    score = reward(lambda obs: obs[..., 0] * 0 + 3.0, range=(0, 1)).score(batch())
    assert all_unknown(score) and "declared range [0, 1]" in next(iter(score.counts()))


@pytest.mark.parametrize("answer", ["text", object(), np.array([1 + 2j])])
def test_answers_that_are_no_numbers_are_refused(answer: object) -> None:
    score = reward(lambda obs: answer).score(batch())
    assert all_unknown(score)


def test_a_function_that_asks_for_no_field_is_told_the_right_name() -> None:
    with pytest.raises(BadInput, match="rename it to 'obs'"):
        reward(lambda state: state)
    with pytest.raises(BadInput, match="rename it to 'next_obs'"):
        reward(lambda obs, nxt_obs: obs)


@pytest.mark.parametrize("fn", [lambda obs: obs.abs().sum(-1), lambda obs: torch.abs(obs).sum(-1)])
def test_a_function_of_tensors_that_received_arrays_is_told_how_to_get_tensors(fn: Any) -> None:
    unprobed = reward(fn, vectorised=True).score(batch())
    assert all_unknown(unprobed)
    assert all(reason.endswith('pass backend="torch" for tensors') for reason in unprobed.why)
    assert reward(fn, vectorised=True, backend="torch").score(batch()).why == {}


def test_the_function_cannot_change_the_episodes() -> None:
    def vandal(obs: np.ndarray) -> np.ndarray:
        obs[...] = 0
        return obs.sum(-1)

    e = batch()
    before = e.obs.clone()  # type: ignore[union-attr]
    reward(vandal)(e)
    assert torch.equal(e.obs, before)  # type: ignore[arg-type]


@pytest.mark.parametrize("options, known", [
    ({}, [True, True, False, True]), ({"vectorised": False}, [True, True, False, True]),
    ({"vectorised": True}, [True, True, False, True]), ({"time": "episode"}, [False] * 4),
    ({"across": "batch"}, [False] * 4)])
def test_a_function_that_exits_makes_what_it_was_asked_unknown(options: dict[str, Any], known: list[bool]) -> None:
    def leaving(obs: Any) -> Any:
        if (obs == 2.0).any():
            raise SystemExit(3)
        return obs[..., 0]

    episodes = Episodes.of_steps(obs=torch.arange(4.0).unsqueeze(1), action=torch.zeros(4),
                                 next_obs=torch.zeros(4, 1))
    score = reward(leaving, **options).score(episodes)
    assert score.known.flatten().tolist() == known and "SystemExit: 3" in next(iter(score.why))


def test_a_hanging_function_is_unknown_within_its_limit() -> None:
    def hang(obs: Tensor) -> Tensor:
        while True:
            time.sleep(0.01)

    start = time.monotonic()
    score = reward(hang, time_limit_s=0.2).score(batch())
    assert time.monotonic() - start < 2 and all_unknown(score)
    assert "did not answer within 0.2 s" in next(iter(score.counts()))


def test_a_limit_works_outside_the_main_thread_too() -> None:
    import threading

    caught: list[BaseException] = []

    def work() -> None:
        try:
            call_within(0.1, lambda: time.sleep(5))
        except TimedOut as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(2)
    assert caught


def test_prefix_and_episode_functions_read_whole_episodes() -> None:
    e = batch()
    prefix = reward(lambda obs: obs[..., 0].cumsum(-1), time="prefix")
    assert torch.allclose(prefix(e), torch.where(e.mask, e.obs[..., 0].cumsum(-1), 0.0), atol=1e-5)  # type: ignore[index]
    final = reward(lambda obs: float(obs[:, 0].max()), time="episode")(e)
    assert [int(i) for i in final.ne(0).nonzero()[:, 1]] == [n - 1 for n in e.lengths.tolist()]


def test_streaming_restarts_the_rows_that_ended() -> None:
    prefix, e = reward(lambda obs: obs[..., 0].cumsum(-1), time="prefix"), batch((4, 4))
    carry = prefix.start(2)
    _, carry = prefix.stream(e.steps(0, 1), carry)
    carry = prefix.restart(carry, torch.tensor([True, False]))
    score, _ = prefix.stream(e.steps(1, 2), carry)
    first = e.obs[..., 0]  # type: ignore[index]
    assert torch.allclose(score.value[:, 0], torch.stack([first[0, 1], first[1, 0] + first[1, 1]]))


def test_the_environments_own_reward_has_its_reported_terms() -> None:
    e = batch()
    e = e.replace(info={"reward_ctrl": e.env_reward * 0.25, "reward_forward": e.env_reward * 0.75, "x": e.env_reward})
    score = EnvReward().score(e)
    assert set(score.terms) == {"ctrl", "forward"}
    assert torch.allclose(sum(score.terms.values()), score.value)  # type: ignore[arg-type]
    assert all_unknown(EnvReward().score(e.replace(env_reward=None)))


def test_dictionary_observations_reach_the_function_as_dictionaries() -> None:
    T = 6
    e = Episodes.of_steps(obs={"pos": torch.randn(T, 2), "goal": torch.randn(T, 2)}, action=torch.zeros(T),
                          next_obs={"pos": torch.randn(T, 2), "goal": torch.randn(T, 2)})
    r = reward(lambda next_obs: -np.linalg.norm(next_obs["pos"] - next_obs["goal"], axis=-1))
    assert torch.allclose(r(e)[0], -(e.next_obs["pos"] - e.next_obs["goal"]).norm(dim=-1)[0], atol=1e-5)  # type: ignore[index, union-attr]


# --- plaudit.check ---------------------------------------------------------------------------------------------


def test_a_healthy_reward_keeps_every_promise() -> None:
    report = check(lambda obs, action: -(obs**2).sum(-1) - 0.1 * (action**2).sum(-1), batch())
    assert report, str(report)


def _noisy(obs: Tensor) -> Tensor:
    return obs[..., 0] + torch.rand(())


def _writes(obs: np.ndarray) -> np.ndarray:
    obs[..., 0] = 0
    return obs[..., 1]


def _future(obs: Tensor) -> Tensor:
    return obs[:, 0].flip(0).cumsum(0).flip(0)


BROKEN = {
    "answer": reward(lambda obs: obs),
    "deterministic": reward(_noisy),
    "inputs unchanged": reward(_writes),
    "batch size": reward(lambda obs: obs[..., 0] - obs[..., 0].mean(), vectorised=True, backend="torch"),
    "reads no future": reward(_future, time="prefix"),
    "extreme inputs": reward(lambda obs: (obs[..., 0] * 20).exp(), backend="torch"),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_check_names_the_promise_that_is_broken(promise: str) -> None:
    report = check(BROKEN[promise], batch())
    assert report[promise].status in ("fail", "note"), str(report)
    if promise != "extreme inputs":
        with pytest.raises(PlauditError, match=promise):
            report.raise_if_failed()


# --- targets -----------------------------------------------------------------------------------------------------


def test_a_target_is_loaded_and_mistakes_are_told(tmp_path: Any) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def speed(obs):\n    return obs[..., 0]\n")
    target = load_target(f"{file}:speed")
    assert target.thing.__name__ == "speed" and target.sha256 is not None
    for text, match in ((f"{file}:sped", "did you mean speed"),
                        (f"{tmp_path}/reward.py:speed", "did you mean .*rewards.py"),
                        ("no colon", "file.py:name"), ("no_such_module:x", "a module that imports")):
        with pytest.raises(BadInput, match=match):
            load_target(text)
    (tmp_path / "bad.py").write_text("x = 1\nraise ValueError('oops')\n")
    with pytest.raises(BadInput, match=r"oops \(line 2\)"):
        load_target(f"{tmp_path}/bad.py:x")


def test_check_sees_normalisation_over_the_batch_in_a_single_episode_too():
    """One episode of 50 steps, as in the README; where there is no company at all it says that it did not look."""
    e = Episodes.of_steps(obs=torch.randn(50, 2), action=torch.randn(50, 1), next_obs=torch.randn(50, 2))
    centred = reward(lambda next_obs: next_obs[..., 0] - next_obs[..., 0].mean(), vectorised=True, backend="torch")
    report = check(centred, e)
    assert not report and report["batch size"].status == "fail" and report["batch size"].evidence["gap"] > 0.1
    plain = reward(lambda next_obs: next_obs[..., 0], vectorised=True, backend="torch")
    assert check(plain, e)["batch size"].status == "pass"
    for alone, subject in ((e.steps(0, 1), plain), (e, reward(lambda next_obs: next_obs[..., 0], time="prefix"))):
        said = check(subject, alone)["batch size"]
        assert said.status == "note" and said.text.startswith("not tested")


@pytest.mark.parametrize(("options", "said"), [
    ({"rnge": (0, 1)}, "reward: expected options out of .*, received rnge; did you mean range?"),
    ({"backend": "jax"}, "backend: expected one of auto, torch, numpy, received jax"),
    ({"backend": "jax", "vectorised": True}, "backend: expected one of auto"),
    ({"range": 3}, "range: expected"), ({"range": (1,)}, "range: expected"), ({"range": (1, 0)}, "range: expected"),
    ({"terms": "speed"}, "terms: expected names"), ({"terms": 3}, "terms: expected names")])
def test_options_that_are_wrong_are_named(options: dict[str, Any], said: str, unchecked: None) -> None:
    with pytest.raises(BadInput, match=said):
        reward(lambda obs: obs[..., 0], **options)
    with pytest.raises(BadInput, match=said):
        reward(**options)(lambda obs: obs[..., 0])


def test_a_reward_or_a_tensor_is_no_function(unchecked: None) -> None:
    with pytest.raises(BadInput, match="received FunctionReward; it is a reward as it is"):
        reward(reward(lambda obs: obs[..., 0]))
    with pytest.raises(BadInput, match="expected a function, received Tensor"):
        reward(torch.zeros(3))  # type: ignore[call-overload]


@pytest.mark.parametrize("answer", [
    lambda obs: {"speed": obs[..., 0], "cost": None},
    lambda obs: {"speed": float(obs[0]), "cost": None},
    lambda obs: {"speed": obs[..., 0], "cost": [None] * len(obs)}])
def test_a_term_that_is_none_is_named(answer: Any) -> None:
    score = reward(answer).score(batch())
    assert list(score.counts()) == ["the function returned None for term 'cost'"]
    ignored = reward(answer, terms={"speed": 1.0, "cost": 0.0}).score(batch())
    assert ignored.all_known, "a term of weight 0 does not matter"
