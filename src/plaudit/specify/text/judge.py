"""A language model as a judge: any OpenAI-compatible server (vLLM, Ollama, llama.cpp, a paid one) is a Reward."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Range, Reward
from plaudit.core.score import Score
from plaudit.core.tokens import DERIVED, Tokens, plain_text
from plaudit.specify.text.cache import AnswerCache
from plaudit.specify.text.http import Client
from plaudit.specify.text.http import Failed as NoAnswer
from plaudit.specify.text.judging import COMPARE, RATE, Price, Spent, fields_of, fill, read_rating, read_verdict
from plaudit.specify.text.reading import at_the_end

Parse = Callable[[str], float | None]
Pair = tuple[float | None, str]
"""A number, or None and why there is none."""


class Judge(Reward):
    """Asks a model to rate each completion, or to compare those of one prompt.

    A template with `{completion}` asks for a rating; the reward is the number. One with `{first}` and `{second}` asks
    which is better; the reward is the share of comparisons won (a tie is half of one), against the other completions of
    the prompt, or against the column `against`. A judge that prefers a place is not fair, so each comparison is made in
    both orders (`swap`) and their mean counts; without, the order is drawn by `seed`, and stays the same for the same
    texts. What cannot be read, fails or is late is unknown, and makes what depends on it unknown.

    Args:
        base_url: The server's, such as `http://127.0.0.1:8000/v1`.
        model: Its name there.
        template: What is asked; `{prompt}` and `{NAME}` of any column are filled in.
        swap: Whether each comparison is made in both orders.
        against: A column of answers to compare with, instead of the other completions.
        opponents: With how many of the others a completion is compared; None is all.
        parse: Reads a reply: a rating, or for a comparison how much the first one won (1, 0.5, 0); None is unknown.
        range: The smallest and largest rating.
        cache: A file in which replies are kept, by everything that was asked; a kill loses at most one batch of them.
        price: What a million tokens cost.
        max_cost: Once so much is spent, no more is asked, and rewards are unknown.
        token_env: The environment variable that holds the key, such as `OPENAI_API_KEY`; it is written nowhere.
        workers: How many questions are on their way at once.
        temperature: 0 for the likeliest reply.
        max_tokens: The longest reply.
        seed: Of the server's sampling, of the order without `swap`, and of the choice of opponents.
        timeout_s: The longest time of a try.
        retries: How often a failed try is repeated.
        backoff_s: The first pause.
        name: How it is called in logs.

    Raises:
        BadInput: for a template without its places, or a wrong option.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> nobody = Judge("http://127.0.0.1:9/v1", "none", retries=0, timeout_s=1.0)
        >>> nobody.score(of_texts(["hm"], ["yes"])).known.tolist(), nobody.spent.failed
        ([[False]], 1)
    """

    def __init__(self, base_url: str, model: str, *, template: str = RATE, swap: bool = True,
                 against: str | None = None, opponents: int | None = None, parse: Parse | None = None,
                 range: Range = (1.0, 10.0), cache: str | Path | None = None, price: Price | None = None,
                 max_cost: float | None = None, token_env: str | None = None, workers: int = 8,
                 temperature: float = 0.0, max_tokens: int = 512, seed: int = 0, timeout_s: float = 60.0,
                 retries: int = 3, backoff_s: float = 0.5, name: str = "judge") -> None:
        fields = fields_of(template)
        self.compares = {"first", "second"} <= fields
        if not self.compares and "completion" not in fields:
            raise BadInput("template", expected="{completion}, or {first} and {second}", received=sorted(fields))
        if not range[0] <= range[1]:
            raise BadInput("range", expected="(smallest, largest)", received=range)
        for what, value in (("workers", workers), ("max_tokens", max_tokens), ("opponents", opponents or 1)):
            if value < 1:
                raise BadInput(what, expected="at least 1", received=value)
        token = os.environ.get(token_env) if token_env else None
        if token_env and not token:
            raise BadInput("token_env", expected="an environment variable with the key", received=token_env,
                           fix=f"export {token_env}=...")
        self.client = Client(base_url, token=token, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)
        self.model, self.template, self.swap, self.against, self.opponents = model, template, swap, against, opponents
        self.parse = parse or (read_verdict if self.compares else read_rating)
        self.limits = (0.0, 1.0) if self.compares else range
        self.range = (min(0.0, self.limits[0]), max(0.0, self.limits[1]))
        self.cache = None if cache is None else AnswerCache(cache)
        self.price, self.max_cost, self.workers, self.seed = price or Price(), max_cost, workers, seed
        self.options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        self.name = name
        self.needs = Needs(time="episode", across="group" if self.compares and not against else "row")
        self.spent = Spent()
        self._lock = threading.Lock()

    @property
    def reads(self) -> Reads:
        named = fields_of(self.template) - {"first", "second"} | ({self.against} if self.against else set[str]())
        return Reads(required=frozenset(named) - {*DERIVED})

    def evaluate(self, episodes: Episodes) -> Score:
        rows = self._rows(episodes)
        results = self._compared(rows, episodes) if self.compares else self._asked(
            [fill(self.template, row) for row in rows])
        value = torch.tensor([torch.nan if v is None else v for v, _ in results], device=episodes.device)
        why: dict[str, torch.Tensor] = {}
        for b, (v, reason) in enumerate(results):
            if v is None:
                why.setdefault(f"{self.name}: {reason}", torch.zeros_like(value, dtype=torch.bool))[b] = True
        return Score.of(at_the_end(value, episodes), mask=episodes.mask,
                        why={r: at_the_end(m, episodes) for r, m in why.items()})

    # --- what is asked ----------------------------------------------------------------------------------

    def _rows(self, episodes: Episodes) -> list[dict[str, Any]]:
        columns = dict(episodes.columns) if isinstance(episodes, Tokens) else {}
        needed = fields_of(self.template) - {"first", "second"} | {"completion", *([self.against or "completion"])}
        lacking = sorted(needed - set(columns))
        if lacking:
            raise BadInput(f"{self.name}: {', '.join(lacking)}", received="no such column",
                           expected=f"columns out of {', '.join(columns) or 'none'}")
        return [{n: _shown(values[b]) if n in ("prompt", "completion") or n == self.against else values[b]
                 for n, values in columns.items() if n in needed} for b in range_of(episodes.B)]

    def _compared(self, rows: Sequence[dict[str, Any]], episodes: Episodes) -> list[Pair]:
        """The share of its comparisons that each row won."""
        if self.against is None and episodes.group is None:
            raise BadInput("episodes.group", expected="which rows share a prompt", received="none")
        pairs = [(b, None) for b in range_of(len(rows))] if self.against else self._pairs(rows, episodes)
        texts = [(rows[b]["completion"], rows[b][str(self.against)] if o is None else rows[o]["completion"])
                 for b, o in pairs]
        questions: list[str] = []
        signs: list[list[bool]] = []
        for (b, _), (mine, other) in zip(pairs, texts, strict=True):
            orders = [True, False] if self.swap else [_drawn(self.seed, rows[b].get("prompt"), *sorted((mine, other)))
                                                      == (mine <= other)]
            signs.append(orders)
            questions += [fill(self.template, {**rows[b], "first": mine if ahead else other,
                                               "second": other if ahead else mine}) for ahead in orders]
        replies = iter(self._asked(questions))
        wins: list[list[Pair]] = [[] for _ in rows]
        for (b, o), orders in zip(pairs, signs, strict=True):
            won = _mean([(v if v is None or ahead else 1.0 - v, why) for ahead, (v, why) in zip(
                orders, itertools.islice(replies, len(orders)), strict=True)])
            wins[b].append(won)
            if o is not None:
                wins[o].append((None if won[0] is None else 1.0 - won[0], won[1]))
        return [_mean(w) if w else (None, "nothing to compare with") for w in wins]

    def _pairs(self, rows: Sequence[dict[str, Any]], episodes: Episodes) -> list[tuple[int, int | None]]:
        """Which rows are compared, each pair once."""
        groups: dict[int, list[int]] = {}
        for b, g in enumerate(episodes.group.tolist() if episodes.group is not None else []):
            groups.setdefault(g, []).append(b)
        chosen: set[tuple[int, int]] = set()
        for members in groups.values():
            for b in members:
                others = sorted((o for o in members if o != b), key=lambda o, b=b: _key(
                    [self.seed, rows[b]["completion"], rows[o]["completion"], abs(o - b)]))
                chosen |= {(min(b, o), max(b, o)) for o in others[: self.opponents]}
        return [(a, b) for a, b in sorted(chosen)]

    # --- asking -----------------------------------------------------------------------------------------

    def _asked(self, questions: Sequence[str]) -> list[Pair]:
        """What the judge says to each; the same question is asked once."""
        bodies = {_key([self.client.url, body]): body for body in map(self._body, questions)}
        kept = self.cache.get(list(bodies)) if self.cache else {}
        todo = [key for key in bodies if key not in kept]
        with ThreadPoolExecutor(self.workers) as threads:
            said = dict(zip(todo, threads.map(lambda key: self._one(bodies[key]), todo), strict=True))
        new = {key: text for key, (text, _) in said.items() if text is not None and self.parse(text) is not None}
        if self.cache and new:
            self.cache.put(new)
        self.spent.from_cache += len(kept)
        read = {key: self._read(text, why) for key, (text, why) in
                {**{k: (t, "") for k, t in kept.items()}, **said}.items()}
        return [read[_key([self.client.url, self._body(question)])] for question in questions]

    def _body(self, question: str) -> dict[str, Any]:
        return {"model": self.model, "messages": [{"role": "user", "content": question}], **self.options}

    def _one(self, body: Mapping[str, Any]) -> tuple[str | None, str]:
        """A reply, or why there is none."""
        if self.max_cost is not None and self.spent.cost >= self.max_cost:
            return None, f"the budget of {self.max_cost:g} is spent"
        try:
            answer = self.client.post(f"{self.client.path}/chat/completions", body)
            text = answer["choices"][0]["message"]["content"]
            if not isinstance(text, str):
                raise TypeError("no text in the reply")
        except (NoAnswer, KeyError, IndexError, TypeError) as error:
            with self._lock:
                self.spent.failed += 1
            return None, str(error) if isinstance(error, NoAnswer) else \
                f"the server's answer is no chat completion ({type(error).__name__}: {error})"
        with self._lock:
            self.spent.add(answer.get("usage"), self.price)
        return text, ""

    def _read(self, text: str | None, why: str) -> Pair:
        if text is None:
            return None, why
        number = self.parse(text)
        low, high = self.limits
        if number is None or not low <= number <= high:
            self.spent.unreadable += 1
            return None, "its reply holds no verdict" if number is None else \
                f"its verdict {number:g} is outside [{low:g}, {high:g}]"
        return float(number), ""

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._lock = threading.Lock()


range_of = range
"""`range` is also what a rating may be."""


def compare_judge(base_url: str, model: str, **options: Any) -> Judge:
    """A judge that compares the completions of a prompt, with the usual template.

    Example:
        >>> compare_judge("http://127.0.0.1:9/v1", "none").needs.across
        'group'
    """
    return Judge(base_url, model, **{"template": COMPARE, **options})


def _mean(parts: Sequence[Pair]) -> Pair:
    lost = next((why for v, why in parts if v is None), None)
    known = [v for v, _ in parts if v is not None]
    return (sum(known) / len(known), "") if lost is None else (None, lost)


def _shown(text: Any) -> str:
    """A text as it is; a conversation with who said what."""
    if isinstance(text, str) or not isinstance(text, Sequence):
        return str(text)
    if len(text) == 1:
        return plain_text(text)
    return "\n\n".join(f"{m.get('role', '?')}: {plain_text([m])}" for m in text if isinstance(m, Mapping))


def _key(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _drawn(*parts: Any) -> bool:
    """A fair coin that falls the same way for the same texts."""
    return int(_key(list(parts))[:8], 16) % 2 == 0
