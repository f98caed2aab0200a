"""Declared features: what is read, what is unknown and why, and where the functions are found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.learn.text.feature_scaling import Scaling
from plaudit.learn.text.features import Feature, FeatureSet
from plaudit.specify.text.judge import Judge
from plaudit.specify.text.pool import Pool
from plaudit.specify.text.reading import at_the_end

FILE = '''
import time
from plaudit.learn.text.features import Feature, FeatureSet

def words(completion_text):
    return len(completion_text.split())

def slow(completion_text):
    while "forever" in completion_text:
        time.sleep(0.05)
    return 1.0 if "x" in completion_text else 0.0

FEATURES = FeatureSet([Feature("words", words, better="less", range=(0, 4)), Feature("slow", slow, better="more")])
AS_LIST = list(FEATURES)
'''


def words(completion_text: str) -> int:
    return len(completion_text.split())


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_features.py"
    path.write_text(FILE)
    return path


class Grades(Reward):
    """A judge by table; says nothing of what it does not know."""

    name = "grades"

    def evaluate(self, episodes: Episodes) -> Score:
        table = {"good": 9.0, "bad": 2.0, "absurd": 99.0}
        said = [table.get(text, torch.nan) for text in episodes.columns["completion_text"]]  # type: ignore[attr-defined]
        return Score.of(at_the_end(torch.tensor(said), episodes), mask=episodes.mask)


def test_functions_of_rows_and_batches_and_rewards_are_read_side_by_side() -> None:
    many = Feature("many", lambda completions, topic: [float(t in c) for c, t in zip(completions, topic, strict=True)])
    features = FeatureSet([Feature("words", words), many, Feature("grade", Grades(), range=(1, 10))])
    read = features.read(["p"] * 4, ["good", "bad", "absurd", "a new one"],
                         columns={"topic": ["go", "go", "su", "x"]})
    assert read.value_BD[:, 0].tolist() == [1, 1, 1, 3]
    assert read.value_BD[:, 1].tolist() == [1, 0, 1, 0]
    assert read.value_BD[:2, 2].tolist() == [9, 2] and read.value_BD[2:, 2].isnan().all()
    assert read.why[2]["grade left its declared range [1, 10]"] == 1 and sum(read.why[2].values()) == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None, "three", 1 / 3])
def test_what_is_no_number_of_the_range_is_unknown_with_a_reason(wrong: object) -> None:
    odd = Feature("odd", lambda completion: wrong if completion == "b" else 2, range=(1, 3))
    read = FeatureSet([odd]).read(["p"] * 3, ["a", "b", "c"])
    assert read.value_BD[:, 0].isnan().tolist() == [False, True, False] and sum(read.why[0].values()) == 1


def test_many_rows_are_read_in_parts_that_leave_a_prompt_whole() -> None:
    place = Feature("place", lambda completions: list(range(len(completions))))
    told: list[int] = []
    prompts = ["a"] * 500 + ["b"] * 300 + ["c"]
    read = FeatureSet([place]).read(prompts, ["x"] * 801, progress=lambda what, done, whole: told.append(done))
    assert told == [800, 801], "the prompt b is not torn apart"
    assert read.value_BD[799:, 0].tolist() == [799, 0]


def test_a_column_that_is_not_there_concerns_all_and_is_an_error() -> None:
    with pytest.raises(BadInput, match="topic"):
        FeatureSet([Feature("t", lambda completion, topic: topic)]).read(["p"], ["c"])


def test_a_judge_that_does_not_answer_makes_a_feature_unknown() -> None:
    judge = Judge("http://127.0.0.1:9/v1", "none", retries=0, timeout_s=1.0)
    read = FeatureSet([Feature("words", words), Feature("judge", judge)]).read(["p"] * 2, ["a", "b c"])
    assert read.value_BD[:, 0].tolist() == [1, 2] and read.value_BD[:, 1].isnan().all()
    scaling = Scaling.of(read.value_BD, ["words", "judge"], why=read.why)
    assert scaling.kept == ("words",) and "unknown everywhere: judge" in scaling.dropped["judge"]


def test_a_function_that_never_ends_costs_one_number(file: Path) -> None:
    with Pool(workers=1, time_limit_s=0.5) as pool:
        read = FeatureSet.load("my_features.py:FEATURES").limit(pool=pool).read(["p"] * 3, ["x", "forever", "y"])
    assert read.value_BD[:, 1].isnan().tolist() == [False, True, False]
    assert any("time limit" in reason for reason in read.why[1])


def test_a_set_is_found_again_by_file_and_name_and_only_as_it_was_seen(file: Path) -> None:
    spec = json.loads(json.dumps(FeatureSet.load("my_features.py:FEATURES").spec()))
    assert "def " not in json.dumps(spec), "names, and no code"
    again = FeatureSet.from_spec(spec)
    assert again.names == ["words", "slow"] and again.read(["p"], ["a x"]).value_BD.tolist() == [[2.0, 1.0]]
    file.write_text(FILE.replace("len(completion_text.split())", "7"))
    with pytest.raises(BadInput, match="which has changed"):
        FeatureSet.from_spec(spec)
    assert FeatureSet.from_spec(spec, trust=True).read(["p"], ["a x"]).value_BD.isnan().tolist() == [[True, False]]
    file.write_text(FILE.replace('better="less"', 'better="more"'))
    with pytest.raises(BadInput, match="those of the training"):
        FeatureSet.from_spec(spec, trust=True)


def test_functions_by_name_are_saved_and_others_are_refused(file: Path) -> None:
    mine = FeatureSet([Feature("words", FeatureSet.load("my_features.py:FEATURES").features[0].function)])
    assert FeatureSet.from_spec(json.loads(json.dumps(mine.spec()))).read(["p"], ["a b"]).value_BD.tolist() == [[2.0]]
    with pytest.raises(Unsupported, match="lambda"):
        FeatureSet([Feature("l", lambda completion: 1)]).spec()


@pytest.mark.parametrize("wrong", [
    lambda: FeatureSet([]), lambda: FeatureSet([Feature("a", words), Feature("a", words)]),
    lambda: Feature("", words), lambda: Feature("base", words), lambda: Feature("a/b", words),
    lambda: Feature("a", words, range=(2, 1)), lambda: FeatureSet([Feature("a", words)]).without("b"),
    lambda: FeatureSet.load("my_features.py:AS_LIST"), lambda: FeatureSet.load("my_features.py:words"),
    lambda: FeatureSet.load("my_features.py:FEATURE"), lambda: FeatureSet.load("nothing.py:FEATURES"),
])
def test_declarations_that_cannot_be_meant_are_refused(wrong: object, file: Path) -> None:
    with pytest.raises(BadInput):
        wrong()  # type: ignore[operator]


# --- scaling -------------------------------------------------------------------------------------------------


def test_constant_and_unknown_features_are_dropped_and_said() -> None:
    raw = torch.tensor([[1.0, 4.0, torch.nan], [2.0, 4.0, torch.nan], [3.0, torch.nan, torch.nan]])
    scaling = Scaling.of(raw, ["a", "b", "c"], why=[{}, {}, {"it raised": 3}])
    assert scaling.kept == ("a",)
    assert scaling.dropped == {"b": "it is 4 everywhere", "c": "it is unknown everywhere: it raised"}
    with pytest.raises(BadInput, match="b: it is 4 everywhere"):
        Scaling.of(raw[:, 1:2], ["b"])


def test_columns_have_mean_0_and_spread_1_and_end_where_the_training_did() -> None:
    raw = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0, 1e-3])
    raw[::4, 1] = torch.nan
    scaling = Scaling.of(raw, ["a", "b", "c"])
    x = scaling(raw).x_BC
    known = ~raw[:, 1].isnan()
    assert scaling.flagged == ("b",) and scaling.C == 4 and scaling.owner == [0, 1, 2, 1]
    assert torch.allclose(x.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(x[known, 1].std(correction=0), torch.ones(1), atol=1e-4)
    assert bool((x[~known, 1] == 0).all()), "the mean of the training set"
    far = scaling(torch.tensor([[99.0, -99.0, 99.0]]))
    assert far.outside_BD.all() and torch.allclose(far.x_BC[0, :3], torch.stack([x[:, 0].max(), x[:, 1].min(),
                                                                                 x[:, 2].max()]))
    lost = scaling(torch.tensor([[torch.nan, torch.nan, 5e-4], [0.5, torch.nan, 5e-4]]))
    assert scaling.surprised(lost).tolist() == [True, False], "a was never missing in training, b was"
    again = Scaling.from_json(json.loads(json.dumps(scaling.to_json())), scaling.state())
    assert torch.equal(again(raw).x_BC, x)
