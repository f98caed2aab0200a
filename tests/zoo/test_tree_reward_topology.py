from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plaudit.core.seeds import Seeds
from plaudit.feedback.records import Preference
from plaudit.feedback.structure import all_distances, regime, structural_function
from plaudit.feedback.text.splitting import prompt_key
from plaudit.zoo import tree_reward_models as models
from plaudit.zoo import tree_reward_space as space
from plaudit.zoo import tree_reward_topology as zoo
from plaudit.zoo.contract import load_result
from plaudit.zoo.lab import run_system
from plaudit.zoo.tree_reward_world import ALPHABET, PROMPTS, WORDS, World

SMOKE = zoo.SYSTEM.scales["smoke"]


def test_smoke_runs_and_writes_its_result(tmp_path: Path) -> None:
    result = run_system(zoo.SYSTEM, scale="smoke", seeds=1, out=tmp_path)
    assert load_result(tmp_path / "tree-reward-topology.json").verdict == result.verdict
    assert len(result.criteria) == 9
    assert {a.name for a in result.arms} >= {*space.LAYOUTS, zoo.TREE, "policy"}
    assert (tmp_path / "tree-reward-topology.png").stat().st_size > 10_000


# --- the space of answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["polynomial", "logarithmic"])
def test_leaves_are_as_far_apart_as_likeness_says_and_f_is_as_planted(form: space.Regime) -> None:
    some = space.Space(K=2, H=5, alpha=0.5, regime=form)
    network = some.network()
    pairs = np.stack(np.triu_indices(some.leaves, 1), 1)
    level = some.shared(pairs[:, 0], pairs[:, 1])
    codes = [format(i, "05b") for i in range(32)]
    brute = [next(k for k in range(6) if codes[a][:k + 1] != codes[b][:k + 1]) for a, b in pairs]
    assert level.tolist() == brute
    assert network.distances(pairs) == pytest.approx(some.by_likeness(level)) == network.path_distances(pairs)
    F = structural_function(all_distances(network)[:32, :32], [2, 4, 8])
    assert (np.diff(F) < 0).all()
    if form == "polynomial":
        assert regime([2, 4, 8], F).alpha == pytest.approx(0.5, abs=0.25)


def test_layouts_have_their_number_of_comparisons_and_their_answers() -> None:
    some, rng = space.Space(K=4, H=5, alpha=0.5), Seeds(0).numpy()
    for layout in space.LAYOUTS:
        said = space.compared(some, layout, 100, rng)
        assert said.shape == (100, 2) and (said[:, 0] != said[:, 1]).all() and said.max() < some.leaves
    assert len(np.unique(space.compared(some, space.CHAIN, 100, rng))) > 150
    assert len(np.unique(space.compared(some, space.REUSED, 100, rng))) <= 100
    small = space.small_tree(some, rng)
    assert len(set(small.tolist())) == 8 and len({i // 4**3 for i in small.tolist()}) == 2, "two first pieces"


def test_a_large_tree_has_a_leaf_in_every_part_before_it_has_two_in_one() -> None:
    some, rng = space.Space(K=4, H=5, alpha=0.5), Seeds(1).numpy()
    leaves = space.large_tree(some, 64, rng)
    assert sorted(i // 4**2 for i in leaves.tolist()) == list(range(64))
    odd = space.large_tree(some, 100, rng)
    parts = np.bincount([i // 4**2 for i in odd.tolist()], minlength=64)
    assert len(set(odd.tolist())) == 100 and parts.min() == 1 and parts.max() == 2
    random = np.bincount(rng.choice(some.leaves, 64, replace=False) // 16, minlength=64)
    assert random.min() == 0, "independent ones leave parts out"


def test_the_detour_through_the_compared_answers_is_never_shorter() -> None:
    some = space.Space(K=3, H=4, alpha=0.5)
    pairs = Seeds(2).numpy().integers(some.leaves, size=(40, 2))
    found = {layout: space.inference(some, some.network(), layout, 20, noise=0.01, pairs=pairs, rng=Seeds(3).numpy())
             for layout in space.LAYOUTS}
    apart = some.by_likeness(some.shared(pairs[:, 0], pairs[:, 1])).mean()
    for row in found.values():
        assert row["all ways"] <= min(row["through S"], row["best way"], apart) + 1e-9
    better = space.inference(some, some.network(), space.CHAIN, 80, noise=0.01, pairs=pairs, rng=Seeds(3).numpy())
    assert better["all ways"] < found[space.CHAIN]["all ways"], "more comparisons bring answers nearer"


# --- the language and the models ----------------------------------------------------------------------------------


def test_an_answer_is_worth_the_sum_of_its_words_in_the_register_of_the_prompt() -> None:
    world = World.make(Seeds(0))
    (a, va), (b, vb) = list(world.stem_worth.items())[:2]
    end = world.ending_worth["g"]
    assert world.gold("aaa", f"{a}g {b}g ") == pytest.approx(va + vb + 2 * end)
    assert world.gold("daa", f"{a}g {b}g ") == pytest.approx(va + vb - 2 * end)
    assert world.gold("aaa", f"{a}g {a}g ") == pytest.approx(2 * va + 2 * end - 0.5), "the same again costs"
    rng = Seeds(1).numpy()
    for _ in range(50):
        said = world.written(rng)
        assert set(said) <= set(ALPHABET) and 3 <= len(said.split()) <= WORDS
        assert all(w[:2] in world.stem_worth for w in said.split())


def test_sets_have_equal_labels_and_the_right_kind_of_pairs() -> None:
    world = World.make(Seeds(0))
    config = replace(SMOKE, hidden=16, updates=1)
    policy = world.policy(Seeds(1), hidden=16, texts=50, updates=1)
    sets, tokens = zoo.collect(config, world, policy, PROMPTS[:20], Seeds(2))
    for n in config.comparisons:
        tree, chain, reused = (sets[zoo.name_of(k, n)] for k in (zoo.TREE, zoo.CHAIN, zoo.REUSED))
        assert len(tree) == len(chain) == len(reused) == n
        for record in tree + chain + reused:
            assert record.tree is not None and record.tree["id"] and record.label in (0.0, 0.5, 1.0)
            gap = world.gold(str(record.context), str(record.options[0])) - world.gold(
                str(record.context), str(record.options[1]))
            assert record.label == (0.5 if gap == 0 else float(gap > 0))
        assert all(r.tree["shared"] == 0 for r in chain if r.tree) and any(r.tree["shared"] > 0 for r in tree if r.tree)
        assert {prompt_key(r) for r in chain} == {prompt_key(r) for r in tree}, "the same roots"
        used = [o for r in chain for o in r.tree["options"]] if chain[0].tree else []
        places = [(prompt_key(r), i) for r in chain if r.tree for i in r.tree["options"]]
        assert len(used) == len(set(places)), "each answer of a chain is compared once"
        assert tokens[zoo.name_of(zoo.TREE, n)] < tokens[zoo.name_of(zoo.CHAIN, n)]
    noisy = sets[zoo.name_of(zoo.TREE, 24, zoo.NOISY)]
    assert [r.options for r in noisy] == [r.options for r in sets[zoo.name_of(zoo.TREE, 24)]]


def test_models_learn_what_they_are_told_side_by_side_and_nothing_from_ties() -> None:
    """Planted: answers with the stem `ab` are better, worse, and as good; one population, three sets."""
    rng = Seeds(4).numpy()
    stems = ["ab", "cd", "ef", "bc"]

    def some(n: int) -> list[tuple[str, str, bool]]:
        out = []
        for _ in range(n):
            words = [[stems[int(i)] + "g" for i in rng.integers(4, size=3)] for _ in range(2)]
            counts = ["abg" in w for w in words]
            if counts[0] != counts[1]:
                out.append((" ".join(words[0]) + " ", " ".join(words[1]) + " ", counts[0]))
        return out

    data, test = some(300), some(200)
    labels = (lambda first: float(first), lambda first: 1.0 - first, lambda first: 0.5)
    sets = [[Preference(context="abc", options=(a, b), label=how(first)) for a, b, first in data] for how in labels]
    model = models.fit(sets, Seeds(5), dim=16, heads=2, steps=80, batch=16, lr=8e-3, decay=0.1)
    first, second = (model.score([("abc", row[k]) for row in test]) for k in (0, 1))
    truth = torch.tensor([row[2] for row in test])
    right, gap = ((first > second) == truth).double().mean(1), (first - second).abs().mean(1)
    assert float(right[0]) > 0.9 and float(right[1]) < 0.1 and float(gap[2]) < 0.1 * float(gap[0])


def test_padding_and_the_models_beside_it_change_nothing() -> None:
    both = models.Population.make(2, Seeds(6), dim=8, heads=2)
    with torch.no_grad():
        both.flat[1] += 0.1 * torch.randn(both.flat.shape[1], generator=Seeds(7).torch())
    alone = models.Population(both.flat[1:].detach(), 8, 2)
    rows = [("abc", "abg cdh "), ("bca", "abg ")]
    assert torch.allclose(both.score(rows)[1:], alone.score(rows), atol=1e-5)
    assert torch.allclose(alone.score(rows)[0, 1:], alone.score(rows[1:])[0], atol=1e-5)
    assert float((both.score(rows)[0] - both.score(rows)[1]).abs().max()) > 1e-3
    other = alone.score([("abc", "cdh abg "), ("bca", "abg ")])
    assert float((other[0, 0] - alone.score(rows)[0, 0]).abs()) > 1e-6, "order can be told"


def test_the_form_of_f_is_read_off_the_answers() -> None:
    world, rng = World.make(Seeds(0)), Seeds(8).numpy()
    rows = [("abc", world.written(rng)) for _ in range(64)]
    exam = zoo.Exam(rows=rows, gold=torch.zeros(64), pool=64, prompts=1, shared=[])
    found = zoo.structure(exam)
    assert found["alpha"] > 0.1 and found["F"][0] > found["F"][-1], "topics are groups"
    assert zoo.structure(zoo.Exam(rows=rows[:3], gold=torch.zeros(3), pool=3, prompts=1, shared=[])) == {}


def test_a_model_that_knows_the_worth_passes_the_exam_and_one_that_inverts_it_fails() -> None:
    world = World.make(Seeds(0))
    policy = world.policy(Seeds(1), hidden=16, texts=50, updates=1)
    exam = zoo.make_exam(SMOKE, world, policy, PROMPTS[:6], Seeds(3))
    good, bad = exam.results(exam.gold.clone()), exam.results(-exam.gold)
    assert good[zoo.GLOBAL] == good[zoo.SHARED] == 1.0 and bad[zoo.GLOBAL] == bad[zoo.SHARED] == 0.0
    assert good["gold"] == sorted(good["gold"]) and bad["gold"] == sorted(bad["gold"], reverse=True)
    best = exam.gold[:SMOKE.pool * SMOKE.judged_prompts].view(-1, SMOKE.pool).amax(1).mean()
    assert good["gold"][-1] == pytest.approx(float(best))


def test_fine_tuning_follows_the_reward_that_chose_and_leaves_the_policy_as_it_was(monkeypatch: pytest.MonkeyPatch
                                                                                   ) -> None:
    world = World.make(Seeds(0))
    config = replace(SMOKE, tuned_on=(2, 16), tuned_prompts=24, tuned_updates=20, tuned_lr=5e-3)
    policy = world.policy(Seeds(1), hidden=16, texts=200, updates=30)
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    worth = lambda _, rows: torch.tensor([1.0, -1.0])[:, None] * torch.tensor([world.gold(*r) for r in rows])  # noqa: E731
    monkeypatch.setattr(zoo, "_scores", worth)
    found = zoo.fine_tuned(config, world, policy, {"knows": 0, "inverts": 1}, models.Population.make(
        2, Seeds(0), dim=4, heads=1), PROMPTS[:24], PROMPTS[24:40], Seeds(2))
    assert found["knows"][1] > found["inverts"][1] + 1
    assert found["knows"][1] > found["knows"][0] and found["inverts"][1] < found["inverts"][0], "more samples, further"
    assert all(torch.equal(before[k], v) for k, v in policy.state_dict().items())
