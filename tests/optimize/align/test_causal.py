"""Language models of transformers as policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.functions import reward
from plaudit.optimize.align import AlignConfig, CausalPolicy, align, imitate
from plaudit.optimize.align.trees import grow_trees

CHAT = [{"role": "user", "content": "What is 2 + 3?"}]


@pytest.fixture(params=["tiny_llama", "tiny_qwen"])
def policy(request: pytest.FixtureRequest) -> CausalPolicy:
    return CausalPolicy.load(request.getfixturevalue(request.param), max_tokens=6)


@reward
def prefers_low(action: torch.Tensor) -> torch.Tensor:
    return (action < 150).float()


def test_one_pass_gives_the_probabilities_of_sampling(policy: CausalPolicy) -> None:
    tokens = policy.sample(["The cat", "Say why, please:", "a"], n=4, seed=3)
    with torch.no_grad():
        found = policy.log_probs(tokens)
    assert torch.allclose(found, tokens.info["log_prob"], atol=1e-4)
    alone = policy.sample(["Say why, please:"], n=2, seed=3)
    assert policy.features(tokens).shape == (12, tokens.T, 32)
    assert alone.columns["completion"] == policy.sample(["Say why, please:", "a"], n=2, seed=3).columns[
        "completion"][:2], "padding on the left of a shorter prompt changes nothing"


def test_trees_share_their_beginnings_and_go_on_as_the_model_would(policy: CausalPolicy) -> None:
    tree, = grow_trees(policy, ["The cat"], depth=2, branching=2, seed=1)
    tokens = policy.tokens_of(["The cat"] * 4, [tree.ids_of(i) for i in tree.leaves()])
    again = policy.sample(["The cat"] * 4, prefixes=[tree.ids_of(i)[:3] for i in tree.leaves()], seed=1)
    with torch.no_grad():
        assert torch.allclose(policy.log_probs(again), again.info["log_prob"], atol=1e-4)
        first, second = policy.log_probs(tokens)[0, :3], policy.log_probs(tokens)[1, :3]
    assert torch.allclose(first, second, atol=1e-4) and len(tree.leaves()) == 4
    assert [tree.nodes[i].completion for i in tree.leaves()] == tokens.columns["completion"]


def test_it_writes_as_transformers_would(tiny_llama: Path) -> None:
    """Near temperature 0 sampling is greedy, which `generate` does too."""
    policy = CausalPolicy.load(tiny_llama, max_tokens=6, temperature=1e-4)
    tokens = policy.sample(["The cat"], seed=0)
    ids = torch.tensor([policy.encode("The cat")])
    said = policy.module.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6)
    assert tokens.action[0, :int(tokens.lengths)].tolist() == said[0, ids.shape[1]:].tolist()


def test_a_conversation_is_answered_by_a_message(policy: CausalPolicy) -> None:
    tokens = policy.sample([CHAT], n=2, seed=0)
    said = tokens.columns["completion"][0]
    assert said[0]["role"] == "assistant" and isinstance(said[0]["content"], str)
    whole = policy.form.encode(CHAT, "5")
    assert policy.encode(CHAT) == whole.prompt_ids, "the prompt is the one that rewards read"


def test_it_learns_a_reward(tiny_llama: Path) -> None:
    policy = CausalPolicy.load(tiny_llama, max_tokens=3)
    result = align(policy, prefers_low, ["The cat", "a"], steps=12, progress=False,
                   config=AlignConfig(prompts=2, samples=8, lr=0.02, beta=0.02, rows=8))
    assert abs(result.curve("kl")[0]) < 1e-4 and sum(result.curve("kl")[-3:]) > 0.6
    assert sum(result.curve("reward")[-3:]) > sum(result.curve("reward")[:3])


def test_adapters_learn_alone_and_are_merged_into_what_is_saved(tiny_llama: Path, tmp_path: Path) -> None:
    policy = CausalPolicy.load(tiny_llama, max_tokens=6, lora=4, seed=1)
    reference = policy.reference()
    rows = policy.form.tokens(["a", "b"], ["yes", "no"])
    losses = imitate(policy, rows, updates=20, batch=2, lr=0.05)
    assert losses[-1] < losses[0] - 0.4 and not reference.trainable()
    assert all("lora_" in name for name in policy.state_dict())
    (tmp_path / "merged" / ".writing-torn").mkdir(parents=True)
    again = CausalPolicy.load(policy.save(tmp_path / "merged"), max_tokens=6)
    assert {p.stat().st_mode for p in (tmp_path / "merged").iterdir()} == {
        (tmp_path / "merged" / "config.json").stat().st_mode}, "no torn folder, and everybody may read what config says"
    before = CausalPolicy.load(tiny_llama, max_tokens=6)
    with torch.no_grad():
        assert torch.allclose(again.log_probs(rows), policy.log_probs(rows), atol=1e-3)
        assert torch.allclose(reference.log_probs(rows), before.log_probs(rows), atol=1e-5)


def test_ppo_and_dpo_run_and_a_kill_changes_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    def stop(step: int, row: dict[str, float]) -> bool:
        return step == 2

    for algo in ("ppo", "dpo"):
        config = AlignConfig(prompts=1, samples=4, lr=0.01, epochs=2, minibatch=2)
        run: dict[str, Any] = {"algo": algo, "steps": 4, "config": config, "progress": False}
        load = lambda: CausalPolicy.load(tiny_llama, max_tokens=3)  # noqa: E731
        align(load(), prefers_low, ["a"], out=tmp_path / algo, **run)
        align(load(), prefers_low, ["a"], out=tmp_path / f"{algo}2", on_step=stop, **run)
        align(load(), prefers_low, ["a"], out=tmp_path / f"{algo}2", resume=True, **run)
        one, two = ((tmp_path / f / "policy.safetensors").read_bytes() for f in (algo, f"{algo}2"))
        assert one == two, algo


def test_it_imitates_given_texts(tiny_llama: Path) -> None:
    policy = CausalPolicy.load(tiny_llama, max_tokens=6)
    rows = policy.form.tokens(["a", "b"], ["yes", "no"])
    losses = imitate(policy, rows, updates=30, batch=2, lr=0.01)
    assert losses[-1] < 0.5 < losses[0]


def test_bad_input_is_named(tiny_llama: Path) -> None:
    with pytest.raises(BadInput, match="dtype"):
        CausalPolicy.load(tiny_llama, dtype="int8")
    with pytest.raises(BadInput, match="temperature"):
        CausalPolicy.load(tiny_llama, temperature=0.0)
    with pytest.raises(BadInput, match="at least one token"):
        CausalPolicy.load(tiny_llama).sample([""])
    with pytest.raises(BadInput, match="in a context of 2048"):
        CausalPolicy.load(tiny_llama, max_tokens=2047).sample(["The cat sat"])


@pytest.mark.slow  # a real model of 135M parameters
def test_a_real_model_answers(real_model: Path) -> None:
    policy = CausalPolicy.load(real_model, max_tokens=16)
    tokens = policy.sample([[{"role": "user", "content": "What is the capital of France? One word."}]], n=4, seed=0)
    assert any("Paris" in said[0]["content"] for said in tokens.columns["completion"])
    with torch.no_grad():
        assert torch.allclose(policy.log_probs(tokens), tokens.info["log_prob"], atol=1e-3)
