from __future__ import annotations

import math
import pickle
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from plaudit.core.algebra import worst
from plaudit.core.errors import BadInput
from plaudit.core.needs import Reads
from plaudit.core.tokens import of_texts
from plaudit.feedback.records import Preference
from plaudit.learn.text.evaluation import evaluate
from plaudit.learn.text.reward import TextReward
from plaudit.serve.server import background
from plaudit.specify.text.functions import text_reward
from plaudit.specify.text.remote import RemoteReward

QUICK: dict[str, Any] = {"timeout_s": 2.0, "retries": 0, "backoff_s": 0.01}


def right(body: Any, _: int) -> Any:
    """plaudit's shape: a point for each character."""
    values = [len(c) for c in body["completions"]]
    return {"scores": values, "why": [None] * len(values), "members": [[v - 1, v + 3] for v in values]}


# --- against our own server ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny_reward):
    return TextReward.load(tiny_reward)


@pytest.fixture(scope="module")
def url(model):
    with background({"rm": model}, token="secret") as url:
        yield url


CHATS = ([[{"role": "user", "content": "2 + 3?"}]] * 2 + [[{"role": "user", "content": "Hi."}]],
         ["five", "six, I think", "Hello!"])


@pytest.mark.parametrize("kind, path", [("plaudit", ""), ("vllm", ""), ("vllm", "/pooling"), ("openrlhf", "")])
def test_every_kind_gives_the_numbers_of_the_model_at_home(model, url, kind, path):
    def whole(prompt, completion):
        return model.format.render([*prompt, {"role": "assistant", "content": completion}])

    remote = RemoteReward(url + path, kind=kind, token="secret", text=whole if kind == "openrlhf" else None)
    here, there = model.score(of_texts(*CHATS)), remote.score(of_texts(*CHATS))
    assert there.all_known and there.value[:, 0].tolist() == pytest.approx(here.value[:, 0].tolist(), abs=1e-4)


def test_reranking_gives_relevances_in_the_same_order(model, url):
    texts = (["2 + 3?"] * 3 + ["Hi."], ["five", "six, I think", "no", "Hello!"])
    here = model.score_texts(*texts)
    there = RemoteReward(url, kind="rerank", token="secret").score(of_texts(*texts)).value[:, 0]
    assert there.tolist() == pytest.approx((1 / (1 + (-here).exp())).tolist(), abs=1e-4)


def test_a_number_for_each_token_comes_from_far_too(model, url):
    rows = model.format.tokens(*CHATS)
    remote = RemoteReward(url, token="secret", per_token=True)
    here = model.paying("token").score(rows)
    assert remote.score(rows).value.numpy() == pytest.approx(here.value.numpy(), abs=1e-3)
    other = of_texts(*CHATS, ids=[[1, 2]] * 3)
    assert not remote.score(other).known.all(1).any()


def test_a_wrong_token_is_unknown_with_the_servers_words(url):
    score = RemoteReward(url, token="wrong", **QUICK).score(of_texts(["a"], ["b"]))
    assert not score.known.any() and "status 401: the bearer token is missing or wrong" in next(iter(score.why))


# --- columns of the data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verifiers():
    def exact(completion_text, answer, hint=None):
        return float(completion_text == answer) + (0.5 if hint else 0.0)

    def short(completion_text):
        return -float(len(completion_text))

    with background({"exact": text_reward(exact), "short": text_reward(short)}) as url:
        yield url


def test_a_server_says_what_its_rewards_read_and_gets_that(verifiers, tmp_path):
    remote = RemoteReward(verifiers, cache=tmp_path / "answers")
    assert remote.reads == Reads(required=frozenset({"answer"}), optional=frozenset({"hint"}))
    assert RemoteReward.at(f"{verifiers}#short").reads == Reads()
    rows = of_texts(["2 + 3?"] * 3, ["5", "6", "5"], answer=["5", np.str_("5"), "5"], hint=[None, None, 1],
                    id=[7, 8, 9])
    assert remote.score(rows).value[:, 0].tolist() == [1.0, 0.0, 1.5]
    other = of_texts(["2 + 3?"] * 2, ["5", "6"], answer=["6", "6"])
    assert remote.score(other).value[:, 0].tolist() == [0.0, 1.0], "the cache tells answers apart"
    remote.check()  # nothing can be said of a text alone, but the server is there
    with pytest.raises(BadInput, match="the columns that the reward reads: answer"):
        evaluate(remote, [Preference(options=("5", "6"), context="2 + 3?", label=1.0)])
    pair = Preference(options=("5", "6"), context="2 + 3?", label=1.0, provenance={"answer": "5"})
    assert evaluate(remote, [pair]).accuracy.mean == 1.0


def test_only_what_is_read_goes_over_the_wire(answering):
    """A server that does not say is sent texts alone, and asked once; one that is away is asked again."""
    rows = of_texts(["a"], ["bb"], answer=["4"], secret=["s"])
    with answering(right) as (url, asked):
        remote = RemoteReward(url, **QUICK)
        assert remote.score(rows).value[0, 0] == 2.0
        assert set(asked[0][1]) == {"prompts", "completions", "members", "per_token"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = RemoteReward(f"http://127.0.0.1:{free.getsockname()[1]}", **QUICK)
    assert away.reads == Reads() and away._reads is None and not away.score(rows).known.any()


def test_columns_are_never_left_out_because_the_server_stumbled(answering, tmp_path):
    """Without its hint each row would be worth 0, and stay so in the cache."""
    def hinted(body: Any, _: int) -> Any:
        values = [1.0 if hint else 0.0 for hint in body.get("hint", [None] * len(body["prompts"]))]
        return {"scores": values, "why": [None] * len(values)}

    said = {"data": [{"id": "m", "reads": {"required": [], "optional": ["hint"], "anything": False}}]}
    asked_for: list[int] = []

    def get() -> tuple[int, Any]:
        asked_for.append(503 if len(asked_for) < 2 else 200)
        return asked_for[-1], said if asked_for[-1] == 200 else {}

    rows = of_texts(["a"] * 2, ["b", "c"], hint=[1, None])
    with answering(hinted, get) as (url, asked):
        remote = RemoteReward(url, cache=tmp_path / "kept", **{**QUICK, "retries": 1})
        first = remote.score(rows)
        assert not first.known.any() and "status 503" in next(iter(first.why)) and not asked and len(asked_for) == 2
        for _ in range(2):
            assert remote.score(rows).value[:, 0].tolist() == [1.0, 0.0]
        assert len(asked) == 1 and len(asked_for) == 3
        assert remote.score(of_texts(["a"], ["b"])).value[0, 0] == 0.0, "without columns nothing is left out"


# --- against servers that fail ---------------------------------------------------------------------------


def reason(remote: RemoteReward, completions: list[str]) -> str:
    score = remote.score(of_texts(["a"] * len(completions), completions))
    assert not score.known.any() and math.isnan(score.value[0, 0])
    (why,) = score.why
    return why


def test_nobody_there_is_unknown_never_zero():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "ConnectionRefusedError" in reason(RemoteReward(f"http://127.0.0.1:{port}", **QUICK), ["b"])


@pytest.mark.parametrize("nonsense, said", [
    (b"<html>", "no JSON"), ({"scores": [1.0, 2.0]}, "KeyError"), ([], "TypeError"), (7, "TypeError"),
    ({"scores": [1.0, 2.0, 3.0], "why": [None] * 3}, "2 entries"),
    ({"scores": ["high", "low"], "why": [None] * 2}, "a number"), ({"scores": None, "why": None}, "2 entries"),
    ({"scores": [True, False], "why": [None] * 2}, "a number"),
    (b'{"scores": [1e999, NaN], "why": [null, null]}', "inf"),
    ({"scores": [[1, 2], [3, 4]], "why": [None] * 2}, "one number"),
    (b"[" * 100_000, "no JSON"),
    ((500, {"detail": "on fire"}), "status 500: on fire"), ((302, b""), "status 302")])
def test_nonsense_is_unknown_with_what_was_wrong(answering, nonsense, said):
    with answering(lambda body, n: nonsense) as (url, _):
        score = RemoteReward(url, **QUICK).score(of_texts(["a", "a"], ["b", "c"]))
    assert not score.known.any() and any(said in why for why in score.why), score.why


@pytest.mark.parametrize("kind, nonsense", [
    ("openrlhf", {"rewards": [1.0]}), ("openrlhf", {"scores": [1.0, 2.0]}), ("vllm", {"data": []}),
    ("vllm", {"data": [{"index": 0, "probs": [1.0]}, {"index": 0, "probs": [1.0]}]}),
    ("vllm", {"data": [{"index": i, "probs": [0.5, 0.5]} for i in range(2)]}),
    ("rerank", {"results": [{"index": 1, "relevance_score": 0.5}]}),
    ("rerank", {"results": [{"index": i, "relevance_score": None} for i in range(2)]})])
def test_the_other_kinds_see_nonsense_too(answering, kind, nonsense):
    with answering(lambda body, n: nonsense) as (url, _):
        assert "nonsense" in reason(RemoteReward(url, kind=kind, **QUICK), ["b", "c"])


def test_answers_out_of_order_find_their_rows(answering):
    def swapped(body, n):
        return {"data": [{"index": i, "probs": [len(body["input"][i])]} for i in (1, 0)]}

    with answering(swapped) as (url, asked):
        score = RemoteReward(url, kind="vllm", **QUICK).score(of_texts(["", ""], ["bbb", "c"]))
    assert score.value[:, 0].tolist() == [3.0, 1.0] and asked[0][0] == "/classify"
    assert asked[0][1]["use_activation"] is False


def test_a_server_that_stumbles_is_asked_again_and_one_that_refuses_is_not(answering):
    with answering(lambda body, n: (503, b"{}") if n < 3 else right(body, n)) as (url, asked):
        score = RemoteReward(url, timeout_s=2.0, retries=3, backoff_s=0.01).score(of_texts(["a"], ["bb"]))
        assert score.value[0, 0] == 2.0 and len(asked) == 3
    with answering(lambda body, n: (422, {"error": {"message": "no"}})) as (url, asked):
        assert "status 422: no" in reason(RemoteReward(url, timeout_s=2.0, retries=3, backoff_s=0.01), ["b"])
        assert len(asked) == 1


def test_a_server_that_drips_is_cut_off_in_time():
    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:  # each byte comes soon enough for a limit on the pause between bytes
                connection.sendall(b"X")
                time.sleep(0.02)
        except OSError:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        start = time.monotonic()
        why = reason(RemoteReward(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.3, retries=0), ["b"])
        assert "no answer within 0.3 s" in why and time.monotonic() - start < 2.0


def test_a_connection_that_was_closed_meanwhile_is_opened_again(model):
    with background({"rm": model}) as url:
        remote = RemoteReward(url, **QUICK)
        assert remote.score(of_texts(["a"], ["b"])).all_known
        remote.client._open.connection.sock.shutdown(socket.SHUT_RDWR)
        assert remote.score(of_texts(["a"], ["b"])).all_known


# --- what is asked ---------------------------------------------------------------------------------------


def test_answers_are_kept_and_equal_questions_asked_once(answering, tmp_path):
    rows = of_texts(["a"] * 4, ["b", "bb", "b", "bbb"])
    with answering(right) as (url, asked):
        first = RemoteReward(url, cache=tmp_path / "kept.sqlite", **QUICK)
        assert first.score(rows).value[:, 0].tolist() == [1, 2, 1, 3]
        assert asked[0][1]["completions"] == ["b", "bb", "bbb"]
        again = RemoteReward(url, cache=tmp_path / "kept.sqlite", **QUICK)
        assert again.score(rows).value[:, 0].tolist() == [1, 2, 1, 3] and len(asked) == 1
        assert again.score(rows).members is not None


def test_failures_are_not_kept(answering, tmp_path):
    with answering(lambda body, n: (400, b"{}") if n == 1 else right(body, n)) as (url, _):
        remote = RemoteReward(url, cache=tmp_path / "kept.sqlite", **QUICK)
        assert not remote.score(of_texts(["a"], ["b"])).all_known
        assert remote.score(of_texts(["a"], ["b"])).all_known


def test_members_travel_so_that_pessimism_works_from_far(answering):
    with answering(right) as (url, _):
        pessimist = worst(RemoteReward(url, **QUICK))
        assert pessimist.score(of_texts(["a", "a"], ["bb", "b"])).value[:, 0].tolist() == [1.0, 0.0]


def test_requests_are_cut_to_size_and_rejoined_in_order(answering):
    with answering(right) as (url, asked):
        score = RemoteReward(url, batch=3, **QUICK).score(of_texts(["a"] * 10, ["x" * n for n in range(10)]))
        assert score.value[:, 0].tolist() == list(range(10)) and len(asked) == 4


def test_one_part_that_fails_leaves_the_others_known(answering):
    def half(body, n):
        return (400, b"{}") if "bad" in body["completions"] else right(body, n)

    with answering(half) as (url, _):
        score = RemoteReward(url, batch=1, **QUICK).score(of_texts(["a"] * 3, ["x", "bad", "xx"]))
    assert score.known[:, 0].tolist() == [True, False, True]


def test_the_token_is_sent_and_a_copy_for_another_process_works(answering):
    with answering(right) as (url, asked):
        remote = pickle.loads(pickle.dumps(RemoteReward(url, token="secret", **QUICK)))  # noqa: S301
        assert remote.score(of_texts(["a"], ["b"])).all_known and asked[0][2] == "Bearer secret"


def test_conversations_without_a_template_are_refused_where_one_is_needed():
    remote = RemoteReward("http://127.0.0.1:9", kind="openrlhf", **QUICK)
    why = reason(remote, [[{"role": "assistant", "content": "a"}]])
    assert "pass text=" in why


@pytest.mark.parametrize("options", [{"url": "ftp://a"}, {"url": "http://"}, {"url": "http://a:99999"},
                                     {"kind": "other"}, {"batch": 0}, {"timeout_s": 0}, {"retries": -1},
                                     {"kind": "vllm", "per_token": True}])
def test_options_that_cannot_be_are_named(options):
    with pytest.raises(BadInput):
        RemoteReward(**{"url": "http://127.0.0.1:9", **options})


def test_a_cache_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "x").write_text("hello, this is no database at all")
    with pytest.raises(BadInput, match="cache"):
        RemoteReward("http://127.0.0.1:9", cache=tmp_path / "x")


def test_it_is_saved_without_its_token_and_restored(answering, tmp_path, monkeypatch):
    from plaudit.core.saving import load_reward, save_reward

    monkeypatch.setenv("MY_TOKEN", "secret")
    with answering(right) as (url, asked):
        save_reward(RemoteReward(url, token_env="MY_TOKEN", **QUICK), tmp_path / "saved")
        assert "secret" not in (tmp_path / "saved" / "reward.json").read_text()
        assert load_reward(tmp_path / "saved", trust=True).score(of_texts(["a"], ["b"])).all_known
        assert asked[0][2] == "Bearer secret"
    with pytest.raises(BadInput, match="token_env"):
        RemoteReward("http://127.0.0.1:9", token_env="NO_SUCH_TOKEN")
