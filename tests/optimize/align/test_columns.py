"""What the data say beside the prompts reaches the reward; a run that knows nothing stops."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput, UnknownReward
from plaudit.core.needs import Reads
from plaudit.core.reward import Reward
from plaudit.core.tokens import Tokens
from plaudit.optimize.align import (
    AlignConfig,
    SmallPolicy,
    TablePolicy,
    TableReward,
    align,
    best_of_n,
    measure,
    mine_pairs,
    over_optimisation,
    read_asked,
)
from plaudit.specify.text.functions import text_reward

ROWS = [{"prompt": "a", "answer": "a"}, {"prompt": "a", "answer": "b"}, {"prompt": "b", "answer": "b", "id": 3}]


@text_reward
def right(completion_text: str, answer: str) -> float:
    return float(answer in completion_text)


@text_reward
def told(completion_text: str, **columns: object) -> float:
    return float(len(columns))


def policy() -> SmallPolicy:
    return SmallPolicy("ab", hidden=4, max_tokens=3)


def test_rows_are_told_apart_by_what_a_reward_reads_alone() -> None:
    asked = read_asked(policy(), [*ROWS, {**ROWS[0], "id": 9}], right.reads)
    assert list(asked.prompts) == ["a", "a", "b"] and asked.columns == {"answer": ["a", "b", "b"]}
    assert len(read_asked(policy(), [*ROWS, ROWS[0]], told.reads).prompts) == 3
    assert read_asked(policy(), [*ROWS, ROWS[0]], told.reads).columns["id"] == [None, None, 3]
    assert (list(read_asked(policy(), ROWS).prompts), read_asked(policy(), ROWS).columns) == (["a", "b"], {})


def test_a_missing_column_is_named_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in (*ROWS, {"prompt": "b", "gold": "a"})))
    with pytest.raises(BadInput, match="line 4: expected the columns that the reward reads: answer, received prompt, "):
        read_asked(policy(), file, right.reads)
    assert read_asked(policy(), file, right.reads, skip_faulty=True).left_out == 1
    with pytest.raises(BadInput, match="columns, for right"):
        align(policy(), right, ["a"], steps=1, progress=False)
    with pytest.raises(BadInput, match="one entry for each of 2"):
        align(policy(), right, ["a", "b"], columns={"answer": ["a"]}, progress=False)
    with pytest.raises(BadInput, match="completion_text"):
        align(policy(), right, ["a"], columns={"completion_text": ["a"]}, progress=False)


@pytest.mark.parametrize("algo", ["rloo", "ppo", "dpo", "kto", "rft"])
def test_each_sample_is_paid_by_the_column_of_its_own_prompt(algo: str) -> None:
    """A prompt with two rows of other answers: what is paid can only be right where each row keeps its own."""
    seen: list[tuple[str, str]] = []

    def pays(prompt_text: str, answer: str) -> float:
        seen.append((prompt_text, answer))
        return float(len(seen) % 3)

    prompts, answers = ["a", "b", "ab"], ["of a", "of b", "of ab"]
    result = align(policy(), text_reward(pays), prompts, algo=algo, columns={"answer": answers}, steps=3,
                   progress=False, config=AlignConfig(prompts=2, samples=4, lr=0.01))
    assert len(seen) == 3 * 2 * 4 and {f"of {p}" == a for p, a in seen} == {True} and len({p for p, _ in seen}) == 3
    assert result.curve("unknown") == [0.0] * 3


def asks(name: str, columns: dict[str, list[str]], reward: Reward, it: SmallPolicy | None = None) -> object:
    prompts, it = ["a", "b", "a"], it or policy()
    return {"measure": lambda: measure(it, it, prompts, [reward], n=4, columns=columns),
            "best": lambda: best_of_n(it, reward, prompts, 4, columns=columns),
            "curve": lambda: over_optimisation(it, reward, reward.named("gold"), prompts, pool=4, columns=columns),
            "mine": lambda: mine_pairs(it, reward, prompts, samples=4, columns=columns)}[name]()


@pytest.mark.parametrize("name", ["measure", "best", "curve", "mine"])
def test_what_samples_once_takes_columns_as_align_does(name: str) -> None:
    seen: list[tuple[str, str]] = []

    def pays(prompt_text: str, answer: str) -> float:
        seen.append((prompt_text, answer))
        return float(len(seen))

    found = asks(name, {"answer": ["of a", "of b", "of the other a"]}, text_reward(pays))
    once = [("a", "of a")] * 4 + [("b", "of b")] * 4 + [("a", "of the other a")] * 4
    assert seen == (once * 2 if name == "curve" else once) and found is not None
    with pytest.raises(BadInput, match="columns, for pays"):
        asks(name, {}, text_reward(pays))
    with pytest.raises(BadInput, match="one entry for each of 3"):
        asks(name, {"answer": ["of a"]}, text_reward(pays))


class Knowing(SmallPolicy):
    """Its samples say the answer of their prompt themselves."""

    def sample(self, prompts: Sequence[Any], **options: Any) -> Tokens:
        tokens = super().sample(prompts, **options)
        each = tokens.B // len(prompts)
        return tokens.replace(columns={**tokens.columns, "answer": [f"of {p}" for p in prompts for _ in range(each)]})


@pytest.mark.parametrize("name", ["measure", "best", "curve", "mine"])
def test_what_the_samples_say_themselves_need_not_be_given(name: str) -> None:
    seen: list[str] = []

    def pays(answer: str) -> float:
        seen.append(answer)
        return float(len(seen))

    found = asks(name, {}, text_reward(pays), Knowing("ab", hidden=8, max_tokens=3))
    once = ["of a"] * 4 + ["of b"] * 4 + ["of a"] * 4
    assert seen == (once * 2 if name == "curve" else once) and found is not None
    with pytest.raises(BadInput, match="columns, for other: .*reads: hint, received answer;"):
        asks(name, {}, text_reward(lambda hint: 0.0, name="other"), Knowing("ab", hidden=8, max_tokens=3))


def test_a_gold_answer_is_learnt() -> None:
    def share(completion_text: str, answer: str) -> float:
        return completion_text.count(answer) / 3

    config = AlignConfig(prompts=4, samples=8, lr=0.05, beta=0.0)
    result = align(SmallPolicy("ab", hidden=16, max_tokens=3), text_reward(share), ["a", "b"], steps=60, config=config,
                   columns={"answer": ["b", "a"]}, progress=False)
    assert result.curve("reward")[-1] > 0.9 > 0.6 > result.curve("reward")[0]


def test_a_run_in_which_nothing_is_known_stops_with_the_reason() -> None:
    nothing = TableReward(torch.full((1, 2), math.nan), vocab=2)
    config = AlignConfig(prompts=1, samples=2)
    with pytest.raises(UnknownReward, match="10 steps in a row"):
        align(TablePolicy(torch.zeros(1, 2)), nothing, [0], steps=30, config=config, progress=False)
    last: list[int] = []
    with pytest.raises(UnknownReward, match="2 steps in a row: .*boom"):
        align(policy(), text_reward(lambda completion_text: 1 / 0 if last else 0.0, name="boom"), ["a"], steps=30,
              config=config, progress=False, stop_after=2, on_step=lambda n, row: bool(n == 3 and last.append(n)))
    result = align(TablePolicy(torch.zeros(1, 2)), nothing, [0], steps=12, config=config, progress=False,
                   stop_after=None)
    assert result.curve("skipped") == [1.0] * 12


def test_rewards_say_which_columns_they_read() -> None:
    from plaudit.specify.text.code import CodeTests
    from plaudit.specify.text.verifiers import ExactAnswer

    exact = ExactAnswer("<answer>...</answer>", answer="gold")
    assert (0.5 * exact + (1 - right)).reads == Reads(required=frozenset({"gold", "answer"}))
    assert CodeTests().reads.required == {"tests"} and told.reads.anything and not told.reads.named
