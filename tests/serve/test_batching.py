from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import of_texts
from plaudit.learn.text.reward import TextReward
from plaudit.learn.text.scorers import RewardScorer
from plaudit.serve.app import build_app
from plaudit.serve.limits import Limits
from plaudit.serve.server import _server, _url, background, open_socket
from plaudit.specify.text.functions import text_reward

QUESTION = [{"role": "user", "content": "What is two and three?"}]


def test_requests_that_come_together_are_scored_together(lengths, ask):
    model = lengths(seconds=0.02)
    with background({"m": model}) as url, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: ask(url, "/score", {"prompt": "", "completions": ["x" * n]})[1]["scores"],
                                range(1, 65)))
    assert answers == [[float(n)] for n in range(1, 65)]  # everybody gets the own answer
    assert len(model.batches) < 32 and sum(model.batches) == 64


def test_a_budget_of_tokens_limits_a_batch(lengths, ask):
    model = lengths(seconds=0.02)
    with background({"m": model}, limits=Limits(batch_tokens=40)) as url, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: ask(url, "/score", {"prompt": "", "completions": ["x" * 30]}), range(24)))
    assert max(model.batches) <= 4 and sum(model.batches) == 24


def test_what_a_client_that_left_had_asked_is_dropped(lengths, ask):
    model = lengths(seconds=0.5)
    with background({"m": model}, limits=Limits(wait_ms=0)) as url:
        host, port = url.removeprefix("http://").split(":")
        staying = http.client.HTTPConnection(host, int(port))
        staying.request("POST", "/score", json.dumps({"prompt": "", "completions": ["a"]}))
        time.sleep(0.05)  # that one is being scored
        for _ in range(5):
            leaving = http.client.HTTPConnection(host, int(port))
            leaving.request("POST", "/score", json.dumps({"prompt": "", "completions": ["b"]}))
            leaving.close()
        assert json.loads(staying.getresponse().read())["scores"] == [1.0]
        staying.close()
        time.sleep(0.1)
        page = ask(url, "/metrics")[1]
    assert sum(model.batches) < 6 and "plaudit_clients_gone_total 5.0" in page


def test_a_shutdown_finishes_what_was_accepted(lengths, ask):
    limits = Limits(wait_ms=0)
    listening = open_socket("127.0.0.1", 0, token=None)
    server = _server(build_app({"m": lengths(seconds=0.1)}, limits=limits), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    url = _url(listening)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, url, "/score", {"prompt": "", "completions": ["x" * n]}) for n in range(1, 9)]
        while sum(server.server_state.tasks and [1] or []) == 0 or len(server.server_state.tasks) < 8:
            time.sleep(0.002)
        server.should_exit = True
        assert [a.result()[1]["scores"] for a in answers] == [[float(n)] for n in range(1, 9)]
    thread.join(5)
    listening.close()
    assert not thread.is_alive()
    with pytest.raises(OSError):
        ask(url, "/health")


def test_any_reward_of_texts_can_be_served(ask):
    class Vowels(Reward):
        name = "vowels"

        def evaluate(self, episodes):
            texts = episodes.columns["completion_text"]
            if "?" in texts:
                raise RuntimeError("planted")
            return Score.of(episodes.mask * 1.0, mask=episodes.mask)

    assert [r.value for r in RewardScorer(Vowels()).rows(["a"], ["b"])] == [1.0]
    with background({"vowels": Vowels()}) as url:
        answer = ask(url, "/score", {"prompt": "a", "completions": ["?"]})[1]
    assert answer["scores"] == [None] and "planted" in answer["why"][0]


def test_a_reward_model_says_the_same_served_as_at_home(tiny_reward, ask):
    reward = TextReward.load(tiny_reward)
    completions = ["five", "It is six, I think.", [{"role": "assistant", "content": "five"}]]
    home = reward.score_texts([QUESTION] * 3, completions)
    tokenizer = reward.format.tokenizer
    whole = tokenizer.apply_chat_template([*QUESTION, {"role": "assistant", "content": "five"}], tokenize=False)
    with background({"rm": reward}) as url:
        served = ask(url, "/score", {"prompt": QUESTION, "completions": completions, "per_token": True})[1]
        assert served["scores"] == pytest.approx(home.tolist(), abs=1e-4)
        assert served["tokens"][0][-1] == pytest.approx(served["scores"][0], abs=1e-4)
        for path, body, read in (
                ("/get_reward", {"query": [whole]}, lambda a: a["rewards"][0]),
                ("/classify", {"input": whole, "use_activation": False}, lambda a: a["data"][0]["probs"][0]),
                ("/classify", {"input": tokenizer(whole)["input_ids"], "use_activation": False},
                 lambda a: a["data"][0]["probs"][0]),
                ("/pooling", {"messages": [*QUESTION, {"role": "assistant", "content": "five"}],
                              "use_activation": False}, lambda a: a["data"][0]["data"][0])):
            assert read(ask(url, path, body)[1]) == pytest.approx(home[0].item(), abs=1e-4)
        status, answer = ask(url, "/classify", {"input": [[5, 10**6]]})
        assert status == 422 and answer["error"]["param"] == "input[0]"


def test_an_empty_conversation_is_unknown_not_a_crash(tiny_reward):
    score = TextReward.load(tiny_reward).score(of_texts([[]], [[]]))
    assert not score.known.any()


def test_a_verifier_gets_the_fields_of_each_request(ask):
    def right(completion_text, answer):
        return float(completion_text == answer)

    def score(url, **body):
        return ask(url, "/score", body)[1]

    with background({"m": text_reward(right)}) as url, ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda i: score(url, prompt="", completions=[f"{i}", "no"], answer=f"{i}", user=1), range(16))
        assert [one["scores"] for one in found] == [[1.0, 0.0]] * 16
        several = {"prompts": ["a", "b"], "completions": ["1", "1"]}
        assert score(url, **several, answer=["1", "2"])["scores"] == [1.0, 0.0]
        assert score(url, **several, answer="1")["scores"] == [1.0, 1.0]
        without = score(url, prompt="", completions=["1"])
        assert without["scores"] == [None] and "answer" in without["why"][0]


def test_fields_that_nobody_reads_part_no_batch(lengths, ask):
    model = lengths(seconds=0.02)
    with background({"m": model}) as url, ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: ask(url, "/score", {"prompt": "", "completions": ["x"], f"f{n}": 1}), range(64)))
    assert len(model.batches) < 32 and sum(model.batches) == 64
