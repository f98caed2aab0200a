from __future__ import annotations

import math
from itertools import combinations
from os.path import commonprefix
from pathlib import Path

import numpy as np
import pytest

from plaudit.core.errors import BadInput
from plaudit.core.reward import Reward
from plaudit.feedback.records import Preference, read_records, write_records
from plaudit.feedback.text.checks import check_pairs
from plaudit.feedback.text.splitting import split_by_prompt
from plaudit.feedback.text.tree_pairs import TreePair, judged, tree_interval, tree_pairs
from plaudit.feedback.text.trees import ROOT, PrefixTree, read_trees, write_trees
from plaudit.specify.text.functions import text_reward


def grown(prompt: str = "go", *, letters: str = "ab", depth: int = 3) -> PrefixTree:
    """The full tree over some letters: a node's text is its way."""
    tree, fringe = PrefixTree(prompt), [ROOT]
    for d in range(depth):
        fringe = [tree.add(i, str(tree.nodes[i].completion) + c, ids=(ord(c),), ended=d + 1 == depth)
                  for i in fringe for c in letters]
    return tree


def test_ways_tokens_and_common_beginnings_are_those_of_the_texts() -> None:
    tree = grown()
    text = [str(n.completion) for n in tree.nodes]
    assert len(tree.leaves()) == 8 and all(len(text[i]) == 3 for i in tree.leaves())
    for i in range(len(tree)):
        assert "".join(map(chr, tree.ids_of(i))) == text[i] and tree.tokens(i) == len(text[i])
        assert [text[k] for k in tree.way(i)] == [text[i][:k + 1] for k in range(len(text[i]))]
    for i, j in combinations(range(len(tree)), 2):
        shared = 0
        while text[i][:shared + 1] == text[j][:shared + 1] and shared < min(len(text[i]), len(text[j])):
            shared += 1
        assert text[tree.common(i, j)] == text[i][:shared], "brute force over the letters"


def test_values_are_backed_up_and_unknown_is_not_zero() -> None:
    tree = grown(depth=2)
    a, b, aa, ab, ba, _ = range(1, 7)
    assert tree.backed_up({aa: 1.0, ab: 0.0, ba: 0.5}) == [0.5, 0.5, 0.5, 1.0, 0.0, 0.5, None]
    assert tree.backed_up({aa: 1.0, ab: 0.0}, by="max")[a] == 1.0
    assert tree.backed_up({aa: 1.0, ab: 0.0}, by="min")[a] == 0.0
    assert tree.backed_up({aa: 1.0})[b] is None, "nothing is known below"
    assert tree.backed_up({a: 0.25, aa: 1.0})[a] == 0.25, "what is known stands"
    with pytest.raises(BadInput, match="known"):
        tree.backed_up({99: 1.0})


def test_the_mean_over_children_is_the_expectation_where_all_are_equally_likely() -> None:
    tree = grown(letters="abc", depth=3)
    truth = {i: float(str(tree.nodes[i].completion).count("a")) for i in tree.leaves()}
    assert tree.backed_up(truth)[ROOT] == pytest.approx(1.0), "three letters, each 'a' in one of three"


def test_nothing_goes_on_from_an_end_or_from_nowhere() -> None:
    tree = PrefixTree("go")
    leaf = tree.add(ROOT, "x", ended=True)
    for parent in (leaf, 7, -1):
        with pytest.raises(BadInput, match="parent"):
            tree.add(parent, "xy")


def test_trees_survive_a_file(tmp_path: Path) -> None:
    talk = PrefixTree([{"role": "user", "content": "hm"}], id="talk")
    talk.add(ROOT, [{"role": "assistant", "content": "yes"}], ids=(4,), ended=True, more={"visits": 3})
    trees = [grown(), talk]
    trees[0].sampled = 17
    again = read_trees(write_trees(tmp_path / "trees.jsonl", trees))
    assert [t.to_json() for t in again] == [t.to_json() for t in trees] and again[0].sampled == 17
    (tmp_path / "trees.jsonl").write_text('{"format": "plaudit.tree.1", "id": "a"}\n')
    with pytest.raises(BadInput, match="line 1"):
        read_trees(tmp_path / "trees.jsonl")
    with pytest.raises(BadInput, match="path"):
        read_trees(tmp_path / "none.jsonl")


def test_all_pairs_can_be_drawn_once_and_no_more() -> None:
    trees = [grown("one"), grown("two", depth=2), PrefixTree("none")]
    everything = tree_pairs(trees, 28 + 6)
    assert len({(p.tree.id, frozenset((p.first, p.second))) for p in everything}) == 34
    with pytest.raises(BadInput, match="at most 34, the pairs of 3 trees \\(1 of them"):
        tree_pairs(trees, 35)
    few = tree_pairs(trees, 10, seed=3)
    assert sum(p.tree is trees[0] for p in few) == 5, "from each tree as many as can be"
    assert [(p.first, p.second) for p in few] == [(p.first, p.second) for p in tree_pairs(trees, 10, seed=3)]


def test_disjoint_pairs_use_no_answer_twice_and_incomplete_ones_break_off() -> None:
    tree = grown(letters="abcd", depth=2)
    used = [i for p in tree_pairs([tree], 8, disjoint=True) for i in (p.first, p.second)]
    assert sorted(used) == tree.leaves()
    mixed = tree_pairs([tree], 40, incomplete=0.25)
    inner = [p for p in mixed if tree.children(p.first) or tree.children(p.second)]
    assert len(inner) == 10 and all(p.common not in (p.first, p.second) for p in inner)


def test_the_order_within_a_pair_is_drawn() -> None:
    trees = [grown(f"{i}", depth=1) for i in range(200)]
    assert 0.35 < np.mean([p.first < p.second for p in tree_pairs(trees, 200)]) < 0.65


def of_a(prompts: object, first: list[str], second: list[str]) -> list[float]:
    return [a.count("a") - b.count("a") for a, b in zip(first, second, strict=True)]


def test_a_sharp_judge_is_believed_and_its_records_say_where_they_stand(tmp_path: Path) -> None:
    tree = grown()
    records = judged(tree_pairs([tree], 28), of_a, annotator="letters")
    for r in records:
        first, second = map(str, r.options)
        gap = first.count("a") - second.count("a")
        assert r.label == (0.5 if gap == 0 else float(gap > 0)) and r.tie == (gap == 0)
        assert r.provenance["delta"] == gap and r.annotator == "letters" and r.tree is not None
        shared = len(commonprefix([first, second]))
        assert (r.tree["depth"], r.tree["shared"]) == (shared, shared) and r.tree["id"] == tree.id
    kept = list(read_records(write_records(tmp_path / "pairs.jsonl", records)))
    assert kept == records


def test_a_noisy_judge_errs_as_bradley_and_terry_say() -> None:
    tree = grown(depth=1)
    pairs = [TreePair(tree, 1, 2)] * 4_000
    for beta in (0.5, 2.0):
        records = judged(pairs, lambda P, A, B: [0.8] * len(A), rationality=beta, seed=1)
        share = np.mean([r.label for r in records])  # pyright: ignore[reportArgumentType,reportCallIssue]
        assert share == pytest.approx(1 / (1 + math.exp(-0.8 * beta)), abs=0.025)
        assert np.mean([r.provenance["delta"] for r in records]) == pytest.approx(0.8, abs=0.15 / beta)


def test_what_a_judge_cannot_tell_is_undecided() -> None:
    tree = grown(depth=1, letters="abc")
    answers: list[float | None] = [None, float("nan"), 1.0]
    records = judged(tree_pairs([tree], 3), lambda P, A, B: answers, with_margin=True)
    assert [r.label for r in records] == [None, None, 1.0] and records[2].margin == 1.0
    with pytest.raises(BadInput, match="an answer for each of 3 pairs"):
        judged(tree_pairs([tree], 3), lambda P, A, B: [1.0])
    with pytest.raises(BadInput, match="rationality"):
        judged([], of_a, rationality=0.0)


def test_a_reward_judges_and_what_it_does_not_know_is_undecided() -> None:
    @text_reward
    def letters(completion: str) -> float:
        return float("nan") if completion == "c" else float(completion == "a")

    assert isinstance(letters, Reward)
    tree = grown(depth=1, letters="abc")
    said = {frozenset(map(str, r.options)): r for r in judged(tree_pairs([tree], 3), letters)}
    ab = said[frozenset("ab")]
    assert ab.options[0 if ab.label else 1] == "a"
    assert said[frozenset("bc")].label is None and said[frozenset("ac")].label is None


def test_a_split_keeps_trees_whole_and_a_naive_one_leaks() -> None:
    trees = [grown(f"prompt {i}") for i in range(12)]
    records = judged(tree_pairs(trees, 120), of_a)
    train, held = split_by_prompt(records, validation=0.25, seed=0)
    assert len(held) == 30 and not check_pairs(held, other=train)
    assert not {r.tree["id"] for r in train if r.tree} & {r.tree["id"] for r in held if r.tree}
    naive = check_pairs(records[:30], other=records[30:])
    assert {f.kind for f in naive} >= {"leak"}, "the broken variant: split by row"


def test_trees_of_one_prompt_have_one_name() -> None:
    assert PrefixTree("a").id == PrefixTree("a").id != PrefixTree("b").id


def test_intervals_by_tree_are_as_wide_as_the_trees_differ() -> None:
    """Planted: all labels of a tree agree, so 400 records say no more than 20 trees do."""
    rng = np.random.default_rng(0)
    records = [Preference(options=("a", "b"), label=1.0, tree={"id": i // 20}) for i in range(400)]
    values = np.repeat(rng.integers(2, size=20), 20).astype(float)
    by_tree = tree_interval(records, values)
    single = tree_interval([Preference(options=("a", "b"), label=1.0, tree={"id": i}) for i in range(400)], values)
    assert by_tree.n == 20 and by_tree.mean == pytest.approx(values.mean())
    assert by_tree.high - by_tree.low > 3.5 * (single.high - single.low), "the broken variant is far too sure"
    with pytest.raises(BadInput, match="one number for each"):
        tree_interval(records, [1.0])
