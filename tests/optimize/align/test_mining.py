from __future__ import annotations

from pathlib import Path

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.feedback.text.formats import read_pairs
from plaudit.optimize.align import AlignConfig, SmallPolicy, TablePolicy, TableReward, align, mine_pairs, mined_from
from plaudit.specify.text.functions import text_reward

PROMPTS = ["ab", "ba", "aa"]


@text_reward
def many_a(completion_text: str) -> float | None:
    """How many a; unknown for an empty text."""
    return float(completion_text.count("a")) if completion_text else None


def test_the_best_and_the_worst_of_each_prompt_are_kept() -> None:
    policy = SmallPolicy("ab", hidden=8, max_tokens=6)
    mined = mine_pairs(policy, many_a, PROMPTS, samples=8, seed=3)
    tokens = policy.sample(PROMPTS, n=8, seed=3)
    said = tokens.columns["completion"]
    assert mined.unknown == sum(not s for s in said)
    for record in mined.records:
        mine = [s.count("a") for s, p in zip(said, tokens.columns["prompt"], strict=True) if p == record.context and s]
        counts = [str(o).count("a") for o in record.options]
        assert counts == [max(mine), min(mine)] == record.provenance["rewards"] and record.label == 1.0
    assert mined.pairs.strength.tolist() == [r.provenance["rewards"][0] - r.provenance["rewards"][1]
                                             for r in mined.records]


def test_ties_and_narrow_gaps_give_no_pair() -> None:
    policy = TablePolicy(torch.zeros(3, 4))
    table = TableReward(torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.5, 0.5, 0.5]]), vocab=4)
    tokens = policy.sample([0, 1, 2], n=12, seed=0)
    assert [len(mined_from(tokens, table, margin=m).pairs) for m in (0.0, 0.5)] == [2, 1]
    mined = mined_from(tokens, table, margin=0.5)
    assert (mined.ties, mined.narrow) == (1, 1)
    with pytest.raises(BadInput, match="1 prompts with ties or unknown rewards, 2 within the margin"):
        mined_from(tokens, table, margin=9.0)
    for wrong in ({"samples": 1}, {"margin": -1.0}, {"margin": float("nan")}):
        with pytest.raises(BadInput):
            mine_pairs(policy, table, [0], **wrong)


def test_records_are_a_file_that_the_reward_models_read(tmp_path: Path) -> None:
    mined = mine_pairs(SmallPolicy("ab", hidden=8, max_tokens=6), many_a, PROMPTS, seed=1, provenance={"round": 1})
    read = read_pairs(mined.write(tmp_path / "pairs.jsonl"))
    assert read == list(mined.records) and read[0].annotator == "many_a" and read[0].provenance["round"] == 1


def test_dpo_on_mined_pairs_moves_the_policy_to_what_was_rewarded() -> None:
    def trained(seed: int, reward: TableReward) -> float:
        policy = TablePolicy(torch.zeros(1, 4))
        mined = mine_pairs(policy, reward, [0] * 20, samples=4, seed=seed)
        align(policy, reward, [0], algo="dpo", pairs=mined.pairs, steps=30, progress=False,
              config=AlignConfig(prompts=16, samples=2, lr=0.1, beta=0.1))
        return float(torch.softmax(policy.raw_logits(policy.asked([0]))[0, 0], -1)[3])

    right = trained(0, TableReward(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), vocab=4))
    wrong = trained(0, TableReward(torch.tensor([[3.0, 2.0, 1.0, 0.0]]), vocab=4))
    assert right > 0.5 > 0.1 > wrong, "broken: the reward turned round"
