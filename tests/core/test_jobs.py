from __future__ import annotations

import json
import math

import pytest
import torch

from plaudit.core.errors import BadInput
from plaudit.core.jobs import Kept, name_of, run_jobs, through_json
from plaudit.core.seeds import Seeds

CALLS: list[int] = []


def square(i, fails_at=-1):
    if i == fails_at:
        raise BadInput("i", expected="another number", received=i)
    CALLS.append(i)
    return {"square": i * i, "random": float(Seeds(0).child(i).numpy().random())}


def threads():
    return torch.get_num_threads()


def a_set():
    return {1}


def not_a_number():
    return [math.nan, math.inf]


@pytest.fixture(autouse=True)
def _forget_calls():
    CALLS.clear()


def test_results_come_in_the_order_of_the_jobs():
    assert [r["square"] for r in run_jobs(square, [{"i": 3}, {"i": 1}, {"i": 2}])] == [9, 1, 4]


def test_function_is_found_by_its_name():
    assert run_jobs("json:loads", [{"s": "[1]"}]) == [[1]]
    assert run_jobs(name_of(square), [{"i": 3}])[0]["square"] == 9


@pytest.mark.parametrize("function", [lambda i: i, CALLS.append, "json", "json:nothing", "no_such_module:f"])
def test_function_that_another_process_could_not_find_is_refused(function):
    with pytest.raises(BadInput):
        run_jobs(function, [{"i": 1}])


def test_function_inside_a_function_is_refused():
    def inner(i):
        return i

    with pytest.raises(BadInput, match="pass what it closed over"):
        run_jobs(inner, [{"i": 1}])


@pytest.mark.parametrize("job", [{"i": {1, 2}}, {"i": torch.zeros(1)}, {"i": {3: 4}}])
def test_job_that_is_not_json_is_refused_before_any_work(job):
    with pytest.raises(BadInput, match=r"jobs\[1\]"):
        run_jobs(square, [{"i": 1}, job])
    assert CALLS == []


def test_result_that_is_not_json_is_refused():
    with pytest.raises(BadInput, match="result"):
        run_jobs(a_set, [{}])


def test_numbers_that_are_none_survive():
    nan, inf = run_jobs(not_a_number, [{}])[0]
    assert math.isnan(nan) and inf == math.inf
    assert through_json("x", (1, (2.5, None))) == [1, [2.5, None]]


def test_killed_run_goes_on_where_it_stopped(tmp_path):
    jobs = [{"i": i, "fails_at": 2} for i in range(4)]
    whole = run_jobs(square, [{"i": i} for i in range(4)])
    for expected in ([0, 1], []):
        CALLS.clear()
        with pytest.raises(BadInput, match="another number") as caught:
            run_jobs(square, jobs, folder=tmp_path)
        assert CALLS == expected
        assert "in the job square 3 of 4" in caught.value.__notes__
    mended = [{"i": i, "fails_at": -1 if i == 2 else 2} for i in range(4)]
    CALLS.clear()
    assert run_jobs(square, mended, folder=tmp_path) == whole
    assert CALLS == [2, 3]


def test_other_version_other_job_other_function_are_made_anew(tmp_path):
    run_jobs(square, [{"i": 1}], folder=tmp_path, version="a")
    run_jobs(square, [{"i": 1}], folder=tmp_path, version="a")
    assert CALLS == [1]
    run_jobs(square, [{"i": 1}], folder=tmp_path, version="b")
    run_jobs(square, [{"i": 1, "fails_at": 7}], folder=tmp_path, version="a")
    assert CALLS == [1, 1, 1]
    assert run_jobs(threads, [{}], folder=tmp_path) == [1]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1, "value": 2, "seconds": 0}'])
def test_damaged_file_is_made_anew(tmp_path, damage):
    run_jobs(square, [{"i": 1}], folder=tmp_path)
    file, = tmp_path.iterdir()
    file.write_text(damage)
    assert run_jobs(square, [{"i": 1}], folder=tmp_path)[0]["square"] == 1
    assert json.loads(file.read_text())["value"]["square"] == 1


def test_progress_counts_what_was_kept(tmp_path):
    run_jobs(square, [{"i": 0}], folder=tmp_path)
    seen = []
    run_jobs(square, [{"i": 0}, {"i": 1}], folder=tmp_path, names=["zero", "one"],
             progress=lambda done, text: seen.append((done, text)))
    assert seen == [(1.0, "one")]
    with pytest.raises(BadInput, match="names"):
        run_jobs(square, [{"i": 0}], names=["one", "two"])


def test_jobs_run_on_one_thread_and_the_caller_keeps_his():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run_jobs(threads, [{}]) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_kept_values_are_forgotten_together_with_the_folder(tmp_path):
    kept = Kept(folder=tmp_path / "all" / "units")
    assert kept.get_or("a", lambda: (1, 2)) == [1, 2]
    assert Kept(folder=kept.folder).get_or("a", lambda: "again") == [1, 2]
    assert kept.get("b") is None
    kept.forget()
    assert list(tmp_path.iterdir()) == []


def test_nothing_kept_without_a_folder():
    kept = Kept()
    assert [kept.get_or("a", lambda: 1), kept.get_or("a", lambda: 2)] == [1, 2]
