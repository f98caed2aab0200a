from __future__ import annotations

import http.client
import json
import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from plaudit.core.errors import BadInput
from plaudit.serve.limits import Limits
from plaudit.serve.server import background, open_socket
from plaudit.specify.text.functions import text_reward

CASES = json.loads((Path(__file__).parent / "wire_shapes.json").read_text())["cases"]
TYPES = {"str": str, "int": int, "float": float, "dict": dict}


def fits(value: Any, shape: Any) -> bool:
    """Whether an answer has exactly the fields and types of a shape."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and set(value) == set(shape) and all(fits(value[k], shape[k]) for k in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and bool(value) and all(fits(v, shape[0]) for v in value)
    return type(value) is TYPES[shape]


# --- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['path']} {','.join(c['request'])}"[:60])
def test_the_shapes_of_others_are_answered_as_their_schemas_say(service, ask, case):
    status, answer = ask(service, case["path"], case["request"])
    assert status == 200, answer
    assert fits(answer, case["answer"]), answer


def test_the_comparison_with_a_schema_can_fail():
    assert not fits({"rewards": [1.0], "more": 1}, {"rewards": ["float"]})
    assert not fits({"rewards": [1]}, {"rewards": ["float"]}) and not fits({"rewards": []}, {"rewards": ["float"]})


def test_scores_stand_in_the_order_of_the_completions_with_members_and_tokens(service, ask):
    _, answer = ask(service, "/score", {"prompt": "hm", "completions": ["abc", "a"], "members": True,
                                        "per_token": True})
    assert answer["scores"] == [3.0, 1.0] and answer["members"] == [[2.0, 4.0], [0.0, 2.0]]
    assert answer["tokens"] == [[1.0] * 3, [1.0]] and answer["model"] == "lengths"


def test_unknown_is_null_with_its_reason_never_zero(service, ask):
    _, answer = ask(service, "/score", {"prompt": "hm", "completions": ["unknown", "a", "nan"]})
    assert answer["scores"] == [None, 1.0, None] and answer["why"] == ["planted", None, "the model gave nan"]


def test_a_shape_without_unknown_refuses_rather_than_invents(service, ask):
    status, answer = ask(service, "/get_reward", {"query": ["a", "unknown"]})
    assert status == 422 and "entry 1: planted" in answer["error"]["message"]


def test_reranking_sorts_and_cuts(service, ask):
    _, answer = ask(service, "/rerank", {"query": "a", "documents": ["ab", {"text": "abcd"}, "abc"], "top_n": 2,
                                         "return_documents": False})
    assert [r["index"] for r in answer["results"]] == [1, 2]
    assert answer["results"][0]["relevance_score"] == pytest.approx(1 / (1 + math.exp(-4)))
    assert "document" not in answer["results"][0]


def test_activation_is_a_sigmoid_that_can_be_switched_off(service, ask, lengths):
    off = ask(service, "/classify", {"input": "abc", "use_activation": False})[1]["data"][0]["probs"]
    on = ask(service, "/classify", {"input": "abc"})[1]["data"][0]["probs"]
    assert off == [3.0] and on == pytest.approx([1 / (1 + math.exp(-3))])
    plain = lengths()
    plain.activation = "identity"
    with background({"plain": plain}) as url:
        assert ask(url, "/classify", {"input": "abc"})[1]["data"][0]["probs"] == [3.0]


def test_a_model_is_chosen_by_name(service, ask):
    assert ask(service, "/score", {"prompt": "", "completions": ["a"], "model": "other"})[1]["model"] == "other"
    status, answer = ask(service, "/score", {"prompt": "", "completions": ["a"], "model": "none"})
    assert status == 404 and "lengths, other" in answer["error"]["expected"]


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data, what", [
    (b"{nope", "body"), (b"\xff\xfe", "body"), (b"[1]", "body"), (b"[" * 100_000, "body"), (b"", "body"),
    (b'{"prompt": "\\ud800", "completions": ["a"]}', "body"),
    (b'{"prompt": "a"}', "completions"), (b'{"prompt": "a", "completions": []}', "completions"),
    (b'{"prompt": "a", "completions": "a"}', "completions"), (b'{"completions": ["a"]}', "prompt"),
    (b'{"prompt": "a", "completions": [7]}', "completions[0]"),
    (b'{"prompt": [{"content": "a"}], "completions": ["a"]}', "prompt[0]"),
    (b'{"prompt": [{"role": "user", "content": 7}], "completions": ["a"]}', "prompt[0].content"),
    (b'{"prompts": ["a", "b"], "completions": ["a"]}', "completions"),
    (b'{"prompts": ["a", "b"], "completions": ["a", "b"], "answer": ["3"]}', "answer"),
    (b'{"prompt": "a", "completions": ["a"], "members": 1}', "members"),
    (b'{"prompt": "a", "completions": ["a"], "model": 3}', "model"),
])
def test_what_is_no_request_is_named_and_refused(service, ask, data, what):
    status, answer = ask(service, "/score", data=data)
    assert status == 422 and answer["error"]["param"] == what and answer["error"]["code"] == 422


@pytest.mark.parametrize("path, body, what", [
    ("/get_reward", {"query": ["a", 7]}, "query[1]"), ("/rerank", {"query": "a", "documents": [3]}, "documents[0]"),
    ("/rerank", {"query": "a", "documents": ["b"], "top_n": -1}, "top_n"),
    ("/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"), ("/classify", {"input": [True]}, "input[0]"),
    ("/classify", {}, "input[0]"), ("/pooling", {"input": "a", "task": "embed"}, "task"),
    ("/pooling", {"input": "a", "encoding_format": "base64"}, "encoding_format"),
    ("/score", {"text_1": ["a", "b", "c"], "text_2": ["a", "b"]}, "text_2")])
def test_the_shapes_of_others_refuse_by_name_too(service, ask, path, body, what):
    status, answer = ask(service, path, body)
    assert status == 422 and answer["error"]["param"] == what


def test_too_much_is_413_and_too_many_texts_too(lengths, ask):
    with background({"m": lengths()}, limits=Limits(body_bytes=2000, texts=3)) as url:
        status, answer = ask(url, "/score", {"prompt": "a" * 3000, "completions": ["a"]})
        assert status == 413 and answer["error"]["expected"] == "at most 2000 bytes"
        status, answer = ask(url, "/score", {"prompt": "a", "completions": ["a"] * 4})
        assert status == 413 and answer["error"]["received"] == "4"
        assert ask(url, "/score", {"prompt": "a", "completions": ["a"] * 3})[0] == 200


@pytest.mark.parametrize("path, body, what", [
    ("/score", {"prompt": "a" * 101, "completions": ["a"]}, "prompt 0 has 101 characters"),
    ("/score", {"prompts": ["a", "a"], "completions": ["a", [{"role": "assistant", "content": "a" * 99}]]},
     "completion 1 has"),
    ("/get_reward", {"query": ["a" * 101]}, "completion 0 has 101"),
    ("/rerank", {"query": "a", "documents": ["a", "b" * 200]}, "completion 1 has 200"),
    ("/classify", {"input": list(range(40))}, "completion 0 has 120")])
def test_a_text_that_would_hold_up_the_others_is_413_and_is_not_scored(lengths, ask, path, body, what):
    model = lengths()
    with background({"m": model}, limits=Limits(text_chars=100)) as url:
        status, answer = ask(url, path, body)
        assert status == 413 and what in answer["error"]["message"] and not model.batches
        assert ask(url, "/score", {"prompt": "a" * 100, "completions": ["a" * 100]})[0] == 200


def test_a_body_that_drips_is_408(lengths):
    with background({"m": lengths()}, limits=Limits(receive_s=0.2)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert b" 408 " in connection.recv(200)


def test_scores_that_do_not_come_are_504(lengths, ask):
    with background({"m": lengths(seconds=0.6)}, limits=Limits(answer_s=0.1)) as url:
        assert ask(url, "/score", {"prompt": "a", "completions": ["a"]})[0] == 504


def test_a_full_queue_is_503_with_a_time_to_come_back(lengths):
    with background({"m": lengths(seconds=0.3)}, limits=Limits(queue_texts=2, wait_ms=0)) as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"prompt": "a", "completions": ["a", "b"]})
        first, second, third = (http.client.HTTPConnection(host, int(port)) for _ in range(3))
        first.request("POST", "/score", body)
        time.sleep(0.1)  # the first is being scored, the second waits
        second.request("POST", "/score", body)
        time.sleep(0.05)
        third.request("POST", "/score", body)
        answer = third.getresponse()
        assert answer.status == 503 and answer.getheader("Retry-After") == "1"
        assert first.getresponse().status == second.getresponse().status == 200
        for connection in (first, second, third):
            connection.close()


def test_one_poisoned_request_fails_alone(lengths, ask):
    model = lengths(seconds=0.05)
    with background({"m": model}, limits=Limits(wait_ms=100)) as url:
        found: dict[str, int] = {}

        def send(text: str) -> None:
            found[text] = ask(url, "/score", {"prompt": "", "completions": [text]})[0]

        threads = [threading.Thread(target=send, args=(text,)) for text in ("raise", "a", "b", "c")]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert found == {"raise": 500, "a": 200, "b": 200, "c": 200}


def test_a_grader_that_exits_answers_500_and_the_service_lives(lengths, ask):
    class Leaving(lengths):
        def row(self, completion, per_token):
            if completion == "exit":
                raise SystemExit(3)
            return super().row(completion, per_token)

    def grader(completion_text):
        if "exit" in completion_text:
            raise SystemExit(3)
        return 1.0

    with background({"leaving": Leaving(), "grader": text_reward(grader)}) as url:
        status, answer = ask(url, "/score", {"prompt": "", "completions": ["exit"]})
        assert status == 500 and "SystemExit: 3" in answer["error"]["message"]
        answer = ask(url, "/score", {"prompt": "", "completions": ["exit", "a"], "model": "grader"})[1]
        assert answer["scores"] == [None, 1.0] and "SystemExit" in answer["why"][0]
        assert ask(url, "/score", {"prompt": "", "completions": ["abc"]})[1]["scores"] == [3.0]


# --- token, health, metrics ------------------------------------------------------------------------------


def test_the_token_is_asked_for_before_anything_else(lengths, ask):
    body = {"prompt": "", "completions": ["a"]}
    with background({"m": lengths()}, token="secret") as url:
        assert ask(url, "/score", body)[0] == 401 and ask(url, "/score", body, token="other")[0] == 401
        assert ask(url, "/score", body, token="secret")[0] == 200
        assert ask(url, "/metrics")[0] == 401 and ask(url, "/metrics", token="secret")[0] == 200
        assert ask(url, "/health")[0] == 200


def test_metrics_count_requests_texts_and_unknowns(lengths, ask):
    with background({"m": lengths()}) as url:
        ask(url, "/score", {"prompt": "", "completions": ["a", "unknown"]})
        ask(url, "/score", data=b"{")
        page = ask(url, "/metrics")[1]
    assert 'plaudit_requests_total{path="/score",status="200"} 1.0' in page
    assert 'plaudit_requests_total{path="/score",status="422"} 1.0' in page
    assert 'plaudit_texts_total{model="m"} 2.0' in page and 'plaudit_unknown_total{model="m"} 1.0' in page


def test_other_machines_are_served_only_with_a_token():
    with pytest.raises(BadInput, match="loopback"):
        open_socket("0.0.0.0", 0, token=None)
    open_socket("0.0.0.0", 0, token="secret").close()


def test_a_port_that_is_taken_is_named():
    with open_socket("127.0.0.1", 0, token=None) as taken:
        with pytest.raises(BadInput, match="free port"):
            open_socket("127.0.0.1", taken.getsockname()[1], token=None)


@pytest.mark.parametrize("name", ["body_bytes", "receive_s", "batch_tokens"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(BadInput, match=name):
        Limits(**{name: 0})
