from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tokens import of_texts
from plaudit.learn.text.reward import TextReward
from plaudit.learn.text.scored import Scored
from plaudit.learn.text.scorers import RewardScorer
from plaudit.serve.app import build_app
from plaudit.serve.limits import Limits
from plaudit.serve.server import _server, _url, background, open_socket
from plaudit.serve.threads import end, threads_for
from plaudit.specify.text import text_reward

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
    go = threading.Event()

    class Held(lengths):
        def rows(self, *args, **options):
            go.wait(30)
            return super().rows(*args, **options)

    limits = Limits(wait_ms=0)
    listening = open_socket("127.0.0.1", 0, token=None)
    server = _server(build_app({"m": Held()}, limits=limits), limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.005)
    url = _url(listening)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, url, "/score", {"prompt": "", "completions": ["x" * n]}) for n in range(1, 9)]
        until = time.monotonic() + 15
        while len(server.server_state.tasks) < 8 and time.monotonic() < until:
            time.sleep(0.002)
        server.should_exit = True
        go.set()
        assert [a.result()[1]["scores"] for a in answers] == [[float(n)] for n in range(1, 9)]
    thread.join(10)
    listening.close()
    assert not thread.is_alive()
    with pytest.raises(OSError):
        ask(url, "/health")


class Hanging:
    """Scores until it is let go."""

    def __init__(self):
        self.begun, self.go, self.seen = threading.Event(), threading.Event(), []

    def rows(self, prompts, completions, *, per_token=False, raw=False):
        self.begun.set()
        self.seen += completions
        self.go.wait(30)
        return [Scored(value=1.0) for _ in completions]


def test_a_model_that_hangs_holds_up_no_other_and_health_names_it(lengths, ask, caplog):
    hanging = Hanging()
    body = {"prompt": "", "completions": ["ab"]}
    with background({"h": hanging, "m": lengths()}, limits=Limits(answer_s=0.3)) as url:
        assert ask(url, "/health")[1]["status"] == "ok"
        assert ask(url, "/score", {**body, "model": "h"})[0] == 504
        time.sleep(0.05)
        assert ask(url, "/score", {**body, "model": "m"})[1]["scores"] == [2.0]
        status, answer = ask(url, "/health")
        assert status == 503 and answer["status"] == "stuck" and answer["stuck_s"]["h"] >= 0.3
        assert list(answer["stuck_s"]) == ["h"] and answer["models"] == ["h", "m"]
        assert any("the model h has been scoring 1 completions" in r.message for r in caplog.records)
        hanging.go.set()
        assert ask(url, "/score", {**body, "model": "h"})[1]["scores"] == [1.0]
        assert ask(url, "/health")[0] == 200


def test_what_nobody_waits_for_is_neither_kept_nor_scored(ask):
    hanging = Hanging()
    with background({"h": hanging}, limits=Limits(answer_s=0.2, wait_ms=0, queue_texts=3)) as url:
        for text in ("first", "second", "third", "fourth", "fifth"):  # each beyond the first waits, and is given up
            assert ask(url, "/score", {"prompt": "", "completions": [text, text]})[0] == 504
        assert ask(url, "/health")[1]["waiting"] == {"h": 0}
        hanging.go.set()
        assert ask(url, "/score", {"prompt": "", "completions": ["last"]})[0] == 200
    assert hanging.seen == ["first", "first", "last"]


def test_a_shutdown_ends_though_a_model_hangs(lengths, ask):
    hanging = Hanging()
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        with background({"h": hanging, "m": lengths()}, limits=Limits(answer_s=60, drain_s=1)) as url:
            pool.submit(ask, url, "/score", {"prompt": "", "completions": ["a"]})
            assert hanging.begun.wait(5)
        assert time.monotonic() - start < 5
    assert not hanging.go.is_set()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_ends_though_a_model_hangs(tmp_path, ask, how):
    (tmp_path / "models.py").write_text(
        "from plaudit.specify.text import text_reward\n@text_reward\ndef hang(completion_text):\n    while True: pass\n"
        "@text_reward\ndef fine(completion_text):\n    return 1.0\n")
    command = [sys.executable, "-m", "plaudit.cli.main", "serve", "--model", "models.py:hang", "--model",
               "models.py:fine", "--port", "0", "--answer-s", "0.5", "--drain-s", "1",
               "--time-limit", "0"]  # in the server's own process, where nothing else can stop it
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        try:
            url = process.stdout.readline().split(" at ")[1].split()[0]
            body = {"prompt": "", "completions": ["a"]}
            assert ask(url, "/score", {**body, "model": "hang"})[0] == 504
            assert ask(url, "/score", {**body, "model": "fine"})[1]["scores"] == [1.0]
            process.send_signal(how)
            assert process.wait(10) != 0
            said = process.stderr.read()
        finally:
            process.kill()  # the test must not wait for what it finds to hang
    assert "the model hang has been scoring 1 completions for 0.5 s" in said and "left behind" in said


def test_models_with_a_part_in_common_are_called_from_one_thread():
    both, other = text_reward(lambda completion_text: 1.0), text_reward(lambda completion_text: 2.0)
    threads = threads_for({"a": both, "b": 0.5 * both + other, "c": text_reward(lambda completion_text: 3.0)})
    assert threads["a"] is threads["b"] and threads["c"] is not threads["a"]
    end(threads.values())


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
