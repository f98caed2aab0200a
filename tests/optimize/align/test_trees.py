from __future__ import annotations

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.optimize.align.policy import Policy
from plaudit.optimize.align.small import SmallPolicy
from plaudit.optimize.align.tables import TablePolicy
from plaudit.optimize.align.trees import chains, grow_trees


def table(*, X: int = 1, V: int = 3, T: int = 3, spread: float = 1.0) -> TablePolicy:
    nodes = sum(V**t for t in range(T))
    return TablePolicy(spread * torch.randn(X, nodes, V, generator=torch.Generator().manual_seed(0)), length=T)


POLICIES: dict[str, tuple[Policy, list[object]]] = {
    "table": (table(X=2), [0, 1]), "small": (SmallPolicy("abc", hidden=8, max_tokens=9), ["a", "bca"])}


@pytest.mark.parametrize("name", POLICIES)
def test_a_completion_goes_on_from_its_prefix_with_the_probabilities_of_the_whole(name: str) -> None:
    policy, prompts = POLICIES[name]
    tokens = policy.sample(prompts, n=30, prefixes=[[1], [2, 0]], seed=1)
    rows = [r[:n] for r, n in zip(tokens.action.tolist(), tokens.lengths.tolist(), strict=True)]
    assert all(r[:1] == [1] for r in rows[:30]) and all(r[:2] == [2, 0] for r in rows[30:])
    assert len({tuple(r) for r in rows}) > 8
    assert torch.allclose(policy.log_probs(tokens), tokens.info["log_prob"], atol=1e-5)


def test_what_follows_a_prefix_is_drawn_from_the_conditional_distribution() -> None:
    policy = table()
    tokens = policy.sample([0], n=6000, prefixes=[[2]], seed=3)
    code = tokens.action[:, 1] * 3 + tokens.action[:, 2]
    share = torch.bincount(code, minlength=9) / len(code)
    p = policy.log_p().detach()[0].exp().view(3, 9)
    assert float((share - p[2] / p[2].sum()).abs().max()) < 0.024
    assert float((share - p[0] / p[0].sum()).abs().max()) > 0.1, "another prefix has another distribution"


def test_a_stream_has_its_own_numbers_wherever_it_stands() -> None:
    policy, prompts = POLICIES["small"]
    both = policy.sample(prompts, n=3, seed=1, streams=[7, 9]).columns["completion"]
    assert policy.sample(prompts[1:], n=3, seed=1, streams=[9]).columns["completion"] == both[3:]
    assert policy.sample(prompts[1:], n=3, seed=1, streams=[7]).columns["completion"] != both[3:]


def test_impossible_prefixes_are_refused() -> None:
    policy, _ = POLICIES["small"]
    for wrong in ([[3]], [[0] * 9], [[9]], [[], []]):
        with pytest.raises(BadInput, match="prefixes"):
            policy.sample(["a"], prefixes=wrong)
    with pytest.raises(BadInput, match="streams"):
        policy.sample(["a"], streams=[1, 2])


# --- trees --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
def test_siblings_differ_pieces_have_their_length_and_answers_are_the_policys(name: str) -> None:
    policy, prompts = POLICIES[name]
    trees = grow_trees(policy, prompts, depth=3, branching=2, seed=0)
    stop = {1: -(-policy.max_tokens // 3), 2: 2 * -(-policy.max_tokens // 3), 3: policy.max_tokens}
    for tree, prompt in zip(trees, prompts, strict=True):
        assert tree.prompt == prompt and tree.sampled >= sum(len(n.ids) for n in tree.nodes)
        for i, node in enumerate(tree.nodes[1:], 1):
            assert tree.tokens(i) <= stop[node.depth] and (node.ended or tree.tokens(i) == stop[node.depth])
            assert node.completion == policy.decode(prompt, tree.ids_of(i))
            end = policy.end is not None and tree.ids_of(i)[-1] == policy.end
            assert node.ended == (end if policy.end is not None else node.depth == 3)
            assert len(tree.children(i)) <= 2 and (tree.children(i) == [] or node.depth < 3)
        for i in range(len(tree)):
            some = [(tree.nodes[c].completion, tree.nodes[c].ended) for c in tree.children(i)]
            assert len(set(some)) == len(some)


def test_a_tree_depends_on_its_prompt_and_seed_not_on_the_trees_behind_it() -> None:
    policy, prompts = POLICIES["small"]
    both = grow_trees(policy, prompts, seed=2)
    assert grow_trees(policy, prompts[:1], seed=2)[0].to_json() == both[0].to_json()
    assert grow_trees(policy, prompts[:1], seed=3)[0].to_json() != both[0].to_json()
    assert grow_trees(policy, prompts[:1], seed=2, branching=3)[0].to_json() != both[0].to_json()


def test_where_everything_is_possible_the_tree_is_full() -> None:
    tree, = grow_trees(table(V=2, spread=0.1), [0], depth=3, branching=2, tries=40)
    assert len(tree.leaves()) == 8 and len(tree) == 15
    wide, = grow_trees(table(V=2, spread=0.1), [0], depth=3, branching=5, tries=40)
    assert len(wide.leaves()) == 8, "there are no more than two continuations"


def test_duplicates_are_sampled_anew_and_their_tokens_are_counted() -> None:
    sure = table(V=2)
    with torch.no_grad():
        sure.table.zero_()
        sure.table[..., 0] = 1.5  # four of five
    fresh = [len(grow_trees(sure, [0], depth=1, branching=4, tries=k)[0].leaves()) for k in (0, 12)]
    assert fresh[0] < fresh[1] == 4
    tree = grow_trees(sure, [0], depth=1, branching=4, tries=12)[0]
    assert tree.sampled > 4 * 3


def test_a_policy_that_is_sure_gives_one_leaf_and_a_greedy_one_is_refused() -> None:
    sure = table(V=2)
    with torch.no_grad():
        sure.table[..., 0], sure.table[..., 1] = 50.0, -50.0
    assert len(grow_trees(sure, [0])[0].leaves()) == 1
    sure.temperature = 0.0
    with pytest.raises(BadInput, match="temperature"):
        grow_trees(sure, [0])


def test_early_ends_leave_an_uneven_tree() -> None:
    policy = SmallPolicy("ab", hidden=8, max_tokens=9, seed=1)
    trees = grow_trees(policy, ["a", "b", "ab", "ba"], depth=3, branching=3)
    depths = {t.nodes[i].depth for t in trees for i in t.leaves()}
    assert 1 in depths and 3 in depths
    assert all(t.nodes[i].ended or t.tokens(i) == 9 for t in trees for i in t.leaves())


def test_chains_are_independent_answers_and_cost_more_tokens_than_a_tree_of_as_many() -> None:
    policy = TablePolicy(torch.zeros(1, sum(2**t for t in range(9)), 2), length=9)
    tree, = grow_trees(policy, [0], depth=3, branching=2)
    chain, = chains(policy, [0], 8)
    assert len(tree.leaves()) == len(chain.leaves()) == 8 and all(chain.common(1, i) == 0 for i in range(2, 9))
    assert chain.sampled >= 8 * 9 and tree.sampled <= chain.sampled - 20, "2 + 4 + 8 pieces of three instead of 24"


def test_bad_shapes_are_refused_before_any_work() -> None:
    policy, _ = POLICIES["small"]
    for wrong in ({"depth": 0}, {"branching": 0}, {"tries": -1}, {"max_tokens": 10}, {"segments": (5, 5)},
                  {"segments": (2,)}, {"depth": 9, "max_tokens": 3}):
        with pytest.raises(BadInput):
            grow_trees(policy, ["a"], **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="each prompt once"):
        grow_trees(policy, ["a", "a"])


def test_progress_is_told_by_depth() -> None:
    seen: list[tuple[int, int]] = []
    grow_trees(table(), [0], depth=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
