"""Files of pairs and of single verdicts as tokens of a policy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.feedback.records import Preference
from plaudit.feedback.text.formats import write_pairs
from plaudit.optimize.align import AlignConfig, CausalPolicy, Judged, Pairs, SmallPolicy, align, mine_pairs
from plaudit.optimize.align.given import given_pairs, read_given, read_prompts
from plaudit.specify.text.functions import text_reward

CHAT = [{"role": "user", "content": "What is 2 + 3?"}]


@text_reward
def many_a(completion_text: str) -> float | None:
    return float(completion_text.count("a")) if completion_text else None


def small() -> SmallPolicy:
    return SmallPolicy("ab", hidden=8, max_tokens=6)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_mined_pairs_come_back_from_their_file(tmp_path: Path) -> None:
    """Tokens, ends, labels and strengths: what is trained on is what was mined, but for samples that were cut."""
    policy = small()
    mined = mine_pairs(policy, many_a, ["ab", "ba", "aa"], seed=1)
    given = read_given(policy, mined.write(tmp_path / "mined.jsonl"))
    pairs, had = given.evidence, mined.pairs
    assert isinstance(pairs, Pairs) and pairs.strength.tolist() == had.strength.tolist()
    assert pairs.label.tolist() == had.label.tolist() and given.prompts == ["ab", "ba", "aa"]
    ended = 0
    for mine, theirs in ((pairs.first, had.first), (pairs.second, had.second)):
        for i, j in zip(mine.tolist(), theirs.tolist(), strict=True):
            one, other = (t.action[k][t.mask[k]].tolist() for t, k in ((pairs.tokens, i), (had.tokens, j)))
            if other[-1] == policy.end:
                ended += 1
                assert one == other
            else:
                assert one == other[:6]
    assert ended >= 2
    judged = Judged.of_pairs(pairs)
    assert len(judged) == 2 * len(pairs) and judged.desirable.tolist() == [True, False] * len(pairs)


def test_what_is_cut_and_left_out_is_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "chosen": "b" * 9, "rejected": "a"}, {"prompt": "a", "chosen": "b", "rejected": "a"},
            {"prompt": "b", "chosen": "aa", "rejected": "aa"}]
    with pytest.raises(BadInput, match=r"row 2: identical"):
        read_given(small(), lines(tmp_path / "rows.jsonl", rows))
    given = read_given(small(), tmp_path / "rows.jsonl", skip_faulty=True)
    assert (given.rows, given.cut, given.left_out, given.prompts) == (3, 1, {"faulty": 1}, ["a"])
    assert given.said() == "2 pairs of 3 rows and 1 prompts; 1 left out (faulty); 1 completions cut"
    tie = Preference(options=("a", "b"), context="a", label=0.5, tie=True)
    several = Preference(options=("a", "b", "bb"), context="b", correct=(True, False, False))
    given = given_pairs(small(), [tie, several])
    assert len(given.evidence) == 2 and given.left_out == {"tie or undecided": 1}
    with pytest.raises(BadInput, match="row 0.*differ within the 6 tokens"):
        given_pairs(small(), [Preference(options=("a" * 7, "a" * 8), context="a", label=1.0)])
    with pytest.raises(BadInput, match="none that could be used"):
        given_pairs(small(), [tie])


def test_the_better_one_comes_first_and_keeps_its_strength(tmp_path: Path) -> None:
    said = [Preference(options=("a", "b"), context="a", strength=3), Preference(options=("a", "b"), strength=-1)]
    write_pairs(said, tmp_path / "rows.parquet", format="plaudit")
    pairs = read_given(small(), tmp_path / "rows.parquet").evidence
    assert isinstance(pairs, Pairs) and pairs.strength.tolist() == [3.0, 1.0] and pairs.label.tolist() == [1.0, 1.0]
    assert [pairs.tokens.columns["completion"][i] for i in pairs.first] == ["b", "a"]


def test_doubt_margins_and_weights_of_a_record_are_kept() -> None:
    rows = [Preference(options=("a", "b"), context="a", label=0.2, weight=2.0),
            Preference(options=("a", "b"), context="b", label=1.0, margin=1.5),
            Preference(options=("a", "b"), context="ab", label=1.0, weight=0.0)]
    given = given_pairs(small(), rows)
    pairs = given.evidence
    assert isinstance(pairs, Pairs) and pairs.weight is not None and given.left_out == {"weight 0": 1}
    assert [pairs.tokens.columns["completion"][i] for i in pairs.first] == ["b", "a"]
    assert pairs.label.tolist() == pytest.approx([0.8, 1.0]) and pairs.weight.tolist() == [2.0, 1.0]
    assert pairs.strength.tolist() == pytest.approx([0.6, 1.5])
    judged = Judged.of_pairs(pairs)
    assert judged.weight is not None and judged.weight.tolist() == [2.0, 2.0, 1.0, 1.0]


def moved(algo: str, rows: list[Preference]) -> torch.Tensor:
    """The weights of a policy after a step on all rows."""
    policy = small()
    align(policy, None, ["a"], algo=algo, steps=1, pairs=given_pairs(policy, rows).evidence, progress=False,
          config=AlignConfig(prompts=len(rows), samples=2, lr=0.01, beta=0.5))
    return torch.cat([p.detach().flatten() for p in policy.module.parameters()])


@pytest.mark.parametrize("algo", ["dpo", "kto"])
def test_a_weight_of_two_is_a_row_said_twice(algo: str) -> None:
    """The mean is over weights, so that all weights halved teach the same; a doubted pair teaches less."""
    one, other = (Preference(options=o, context="a", label=1.0) for o in (("a", "b"), ("bb", "a")))
    twice = moved(algo, [replace(one, weight=2.0), other])
    if algo == "dpo":  # KTO's reference point is of a step's rows, whatever their weight
        assert torch.allclose(twice, moved(algo, [one, one, other]), atol=1e-6)
    assert torch.allclose(twice, moved(algo, [one, replace(other, weight=0.5)]), atol=1e-6)
    assert not torch.allclose(twice, moved(algo, [one, other]), atol=1e-6)
    if algo == "dpo":
        assert not torch.allclose(moved(algo, [one]), moved(algo, [replace(one, label=0.6)]), atol=1e-6)


def test_single_verdicts_are_read_and_their_faults_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "a", "completion": "b", "label": True},
                                  {"prompt": "a", "completion": "abababab", "label": 0}]
    given = read_given(small(), lines(tmp_path / "rows.jsonl", rows))
    assert isinstance(given.evidence, Judged) and given.evidence.desirable.tolist() == [True, False]
    assert given.cut == 1 and given.said().startswith("2 verdicts of 2 rows and 1 prompts")
    weighed = read_given(small(), [{**rows[0], "weight": 2}, {**rows[1], "weight": None},
                                   {**rows[0], "weight": 0}])
    assert isinstance(weighed.evidence, Judged) and weighed.evidence.weight is not None
    assert weighed.evidence.weight.tolist() == [2.0, 1.0] and weighed.left_out == {"weight 0": 1}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "a", "completion": "b", "label": "perhaps"}, "line 3.*label = 'perhaps'"),
        ({"prompt": "a", "completion": "b", "label": True, "weight": -1}, "line 3.*weight = -1"),
        ({"prompt": "a", "completion": "  ", "label": True}, "line 3.*completion = '  '"),
        ({"prompt": "a", "label": True}, "line 3.*no completion"), ({"prompt": "x", "completion": "b", "label": True},
                                                                    "line 3.*characters 'ab'")]
    for row, says in wrong:
        with pytest.raises(BadInput, match=says):
            read_given(small(), lines(tmp_path / "bad.jsonl", [*rows, row]))
        assert sum(read_given(small(), tmp_path / "bad.jsonl", skip_faulty=True).left_out.values()) == 1


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_qwen"])
def test_a_chat_format_says_both_parts(name: str, request: pytest.FixtureRequest) -> None:
    """What is trained on begins where the policy begins to write, and ends with its end token."""
    policy = CausalPolicy.load(request.getfixturevalue(name), max_tokens=12)
    rows = [Preference(options=("It is 5.", "no"), context=CHAT, label=1.0),
            Preference(options=("yes", "It is 6."), context="plain", label=0.0)]
    pairs = given_pairs(policy, rows).evidence
    assert pairs.tokens.prompt_ids is not None and pairs.tokens.prompt_mask is not None
    asked = pairs.tokens.prompt_ids[0][pairs.tokens.prompt_mask[0]].tolist()
    assert asked == policy.encode(CHAT)
    for i in range(4):
        ids = pairs.tokens.action[i][pairs.tokens.mask[i]].tolist()
        assert ids[-1] == policy.end and policy.end not in ids[:-1]
    first = pairs.tokens.action[0][pairs.tokens.mask[0]].tolist()
    assert policy.decode(CHAT, first)[0]["content"].strip() == "It is 5."
    long = Preference(options=("yes", "no"), context="word " * 3000, label=1.0)
    with pytest.raises(BadInput, match=r"row 1.*in a context of 2048"):
        given_pairs(policy, [rows[0], long])
    assert given_pairs(policy, [rows[0], long], skip_faulty=True).left_out == {"too long, or the same once cut": 1}


def test_a_file_teaches_what_it_says(tmp_path: Path) -> None:
    rows = [{"prompt": p, "chosen": "aa", "rejected": "bb"} for p in ("a", "b", "ab", "ba")]
    for algo in ("dpo", "kto"):
        policy = small()
        given = read_given(policy, lines(tmp_path / "rows.jsonl", rows))
        result = align(policy, many_a, given.prompts, algo=algo, pairs=given.evidence, steps=20, progress=False,
                       config=AlignConfig(prompts=4, samples=4, lr=0.02, beta=0.2, measure_every=19))
        assert result.curve("reward")[-1] > result.curve("reward")[0], algo
        with torch.no_grad():
            better, worse = policy.log_probs(given.evidence.tokens).sum(-1).view(-1, 2).T
        assert bool((better > worse + 1).all()), algo


def test_prompts_are_read_once_each(tmp_path: Path, tiny_llama: Path) -> None:
    policy = CausalPolicy.load(tiny_llama, max_tokens=4)
    rows = [{"prompt": "a"}, {"prompt": CHAT}, {"instruction": "b"}, {"prompt": "a", "chosen": "x", "rejected": "y"}]
    assert read_prompts(policy, lines(tmp_path / "p.jsonl", rows)) == (["a", CHAT, "b"], 0)
    write_pairs([Preference(options=("x", "y"), context=CHAT, label=1.0)], tmp_path / "p.parquet", format="plaudit")
    assert read_prompts(policy, tmp_path / "p.parquet") == ([CHAT], 0)
    for bad, says in (({"question": "b"}, "line 2.*a text or a list"), ({"prompt": "a " * 4000}, "line 2.*context")):
        with pytest.raises(BadInput, match=says):
            read_prompts(policy, lines(tmp_path / "p.jsonl", [{"prompt": "a"}, bad]))
        assert read_prompts(policy, tmp_path / "p.jsonl", skip_faulty=True) == (["a"], 1)


def test_half_a_surrogate_pair_is_named_and_can_be_left_out(tmp_path: Path, tiny_llama: Path) -> None:
    policy = CausalPolicy.load(tiny_llama, max_tokens=4)
    pairs = [{"prompt": "a", "chosen": "x", "rejected": "y"}, {"prompt": "\ud800", "chosen": "x", "rejected": "y"}]
    verdicts = [{"prompt": "a", "completion": c, "label": True} for c in ("x", "\ud800")]
    for rows, says in ((pairs, "row 1: no unicode"), (verdicts, "line 2.*surrogate")):
        with pytest.raises(BadInput, match=says):
            read_given(policy, lines(tmp_path / "g.jsonl", rows))
        assert len(read_given(policy, tmp_path / "g.jsonl", skip_faulty=True).evidence) == 1
    with pytest.raises(BadInput, match="line 2.*surrogate"):
        read_prompts(policy, lines(tmp_path / "p.jsonl", pairs))
    assert read_prompts(policy, tmp_path / "p.jsonl", skip_faulty=True) == (["a"], 1)
