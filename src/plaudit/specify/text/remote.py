"""A reward that lives on a server: plaudit's own, vLLM's, OpenRLHF's, or one that reranks.

Whatever goes wrong (no server, a slow one, nonsense) makes the rows concerned unknown, with the reason; never zero.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urldefrag, urlsplit

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward, describe_failure
from plaudit.core.score import Score
from plaudit.core.tokens import Tokens, plain_text
from plaudit.specify.text.cache import AnswerCache
from plaudit.specify.text.columns import TEXTS, as_columns, said_of
from plaudit.specify.text.http import Client, Failed

Kind = Literal["plaudit", "openrlhf", "vllm", "rerank"]
PATHS: Mapping[str, str] = {"plaudit": "/score", "openrlhf": "/get_reward", "vllm": "/classify", "rerank": "/rerank"}
BY_PATH: Mapping[str, Kind] = {"/get_reward": "openrlhf", "/classify": "vllm", "/pooling": "vllm", "/rerank": "rerank"}
"""What a server speaks whose URL ends so."""
TOKEN = "PLAUDIT_TOKEN"
"""The variable that holds the bearer token of commands: everybody on the machine sees what stands in a command line."""
_OWN = ("model", "per_token", "members")
"""Fields of a request to plaudit that are no columns."""
LONGEST = 1_000_000
"""About how many characters go into one request."""


@dataclass(frozen=True)
class Said:
    """What a server said of one row: a number, or why there is none."""

    value: float | None
    members: tuple[float, ...] = ()
    tokens: tuple[float, ...] | None = None
    why: str = ""


class _Row(NamedTuple):
    """What is asked about."""

    prompt: Any
    completion: Any
    told: Mapping[str, Any]
    """What the data say of it."""


class RemoteReward(Reward):
    """Asks a server for the score of each completion.

    Args:
        url: Where it listens; a path in it replaces the usual one of its kind.
        kind: `plaudit` (`plaudit serve`), `openrlhf` (`/get_reward`), `vllm` (`/classify`, or `/pooling` where the
            URL says so) or `rerank` (Cohere's, Jina's and vLLM's shape; its scores are relevances).
        token: A bearer token; it is written nowhere.
        token_env: The environment variable that holds it, instead.
        model: Which of a server's models.
        text: Makes one string of a prompt and a completion for servers that take whole texts (`openrlhf`, and `vllm`
            for plain texts): a template, applied. By default the two are joined as they are, and conversations go to
            vLLM as messages, for its own template.
        batch: The most completions of one request.
        workers: How many requests are on their way at once.
        per_token: One number for each token (`plaudit` alone).
        cache: A file in which answers are kept; the same question is then not asked again.
        timeout_s: The longest time a try may take.
        retries: How often a failed try is repeated, with pauses that double.
        backoff_s: The first pause.
        name: How it is called in logs.

    Raises:
        BadInput: when the URL, the kind or a number is wrong.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> nobody = RemoteReward("http://127.0.0.1:9", timeout_s=1.0, retries=0)
        >>> nobody.score(of_texts(["hm"], ["yes"])).known.tolist()
        [[False]]
    """

    def __init__(self, url: str, *, kind: Kind | str = "plaudit", token: str | None = None,
                 token_env: str | None = None, model: str | None = None,
                 text: Callable[[Any, Any], str] | None = None, batch: int = 32, workers: int = 4,
                 per_token: bool = False, cache: str | Path | None = None, timeout_s: float = 60.0, retries: int = 3,
                 backoff_s: float = 0.5, name: str = "") -> None:
        if kind not in get_args(Kind):
            raise BadInput("kind", expected=f"one of {', '.join(get_args(Kind))}", received=kind)
        if per_token and kind != "plaudit":
            raise BadInput("per_token", expected="kind='plaudit'", received=kind)
        for what, value in (("batch", batch), ("workers", workers)):
            if value < 1:
                raise BadInput(what, expected="at least 1", received=value)
        if token is None and token_env is not None:
            token = os.environ.get(token_env)
            if not token:
                raise BadInput("token_env", expected="a variable that holds the token", received=token_env)
        self.token_env = token_env
        self.client = Client(url, token=token, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)
        self.kind = kind
        self.path = self.client.path or PATHS[kind]
        self.model, self.text, self.batch, self.workers, self.per_token = model, text, batch, workers, per_token
        self.cache = None if cache is None else AnswerCache(cache)
        self.name = name or model or f"{kind} at {self.client.host}:{self.client.port}"
        self.needs = Needs(time="episode")
        self._reads: Reads | None = None if kind == "plaudit" else Reads()

    @staticmethod
    def at(url: str, *, kind: Kind | None = None, tokenizer: str | Path | None = None) -> RemoteReward:
        """A server as commands name it: `http://host:8000/get_reward#model`, with the token out of PLAUDIT_TOKEN.

        Args:
            url: Its path says what it speaks, unless `kind` does; behind `#` stands which of a server's models.
            kind: What it speaks.
            tokenizer: A folder whose chat template makes whole texts, for servers that take such.

        Raises:
            BadInput: when the URL is none, or the folder has no tokenizer.

        Example:
            >>> RemoteReward.at("http://127.0.0.1:9/get_reward#rm").name
            'rm'
        """
        plain, model = urldefrag(url)
        path = urlsplit(plain).path.rstrip("/")
        by_path: list[Kind] = [k for end, k in BY_PATH.items() if path.endswith(end)]
        text = None
        if tokenizer is not None:
            from plaudit.core.chat import ChatFormat

            text = ChatFormat.load(tokenizer, as_chat=True).text
        return RemoteReward(plain, kind=kind or [*by_path, "plaudit"][0], model=model or None, text=text,
                            token_env=TOKEN if os.environ.get(TOKEN) else None)

    def check(self) -> None:
        """Asks for the score of one short text, so that a server that is not there is an error before any work.

        One that has said which columns it needs is there, and knows nothing of a text alone.

        Raises:
            BadInput: with what the server said, and what may mend it.
        """
        if self.reads.required:
            return
        said = self.ask(["2 + 2?"], [" It is 4."])[0]
        if said.value is None:
            fix = next((f for word, f in _FIXES.items() if word in said.why), "")
            raise BadInput("url", expected=f"a server that answers POST {self.path} (kind {self.kind})",
                           received=f"{self.client.url}: {said.why}", fix=fix)

    @property
    def wants_texts(self) -> bool:
        """Whether it cannot take a conversation: the server reads whole texts, and nothing says how to make them."""
        return self.kind == "openrlhf" and self.text is None

    @property
    def reads(self) -> Reads:
        """The columns that the served reward reads, as `plaudit serve` says; none where a server does not say."""
        try:
            return self._told_reads()
        except Failed:
            return Reads()

    def _told_reads(self) -> Reads:
        """What the server says that it reads, asked for until it answers.

        Raises:
            Failed: where nobody answers now.
        """
        if self._reads is None:
            try:
                models = self.client.get(f"{self.path.rpartition('/')[0]}/v1/models")["data"]
                mine = models[0] if self.model is None else next(m for m in models if m["id"] == self.model)
                self._reads = Reads.of_json(mine["reads"])
            except Failed as failure:
                if failure.again:
                    raise
                self._reads = Reads()
            except (KeyError, TypeError, IndexError, StopIteration):
                self._reads = Reads()
        return self._reads

    def evaluate(self, episodes: Episodes) -> Score:
        if not isinstance(episodes, Tokens) or not {"prompt", "completion"} <= set(episodes.columns):
            raise BadInput("episodes", expected="Tokens with the columns prompt and completion",
                           received=type(episodes).__name__)
        told = {name: values for name, values in episodes.columns.items() if name not in (*TEXTS, *_OWN)}
        try:
            reads = self._told_reads() if told else Reads()
        except Failed as failure:
            return _as_score([Said(None, why=failure.reason)] * episodes.B, episodes, per_token=self.per_token)
        columns = [said_of({name: values[b] for name, values in told.items()}, reads) for b in range(episodes.B)]
        said = self.ask(episodes.columns["prompt"], episodes.columns["completion"], columns)
        return _as_score(said, episodes, per_token=self.per_token)

    def spec(self) -> dict[str, Any]:
        """JSON, for `save_reward`; a token given in person is left out.

        Raises:
            Unsupported: where `text` is a function.
        """
        if self.text is not None:
            raise Unsupported(f"{self.name} renders texts by a function, which cannot be written down")
        c = self.client
        return {"url": c.url, "kind": self.kind, "token_env": self.token_env, "model": self.model, "batch": self.batch,
                "workers": self.workers, "per_token": self.per_token, "timeout_s": c.timeout_s, "retries": c.retries,
                "backoff_s": c.backoff_s, "cache": None if self.cache is None else str(self.cache.path)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> RemoteReward:
        """The inverse of `spec`."""
        return cls(**spec)

    def ask(self, prompts: Sequence[Any], completions: Sequence[Any],
            columns: Sequence[Mapping[str, Any]] | None = None) -> list[Said]:
        """What the server says of each row, with what the data say of it; never raises because of the server."""
        told = [{}] * len(prompts) if columns is None else columns
        rows = [_Row(p, c, json.loads(json.dumps(dict(t), default=_plain)))
                for p, c, t in zip(prompts, completions, told, strict=True)]
        keys = [self._key(row) for row in rows]
        known: dict[str, Said] = {}
        if self.cache is not None:
            known = {k: _said(json.loads(v)) for k, v in self.cache.get(keys).items()}
        open_ = list({k: row for k, row in zip(keys, rows, strict=True) if k not in known}.items())
        parts = self._parts(open_)
        if len(parts) > 1:
            with ThreadPoolExecutor(min(self.workers, len(parts))) as pool:
                answers = list(pool.map(self._part, parts))
        else:
            answers = [self._part(part) for part in parts]
        fresh = {k: said for part, answer in zip(parts, answers, strict=True)
                 for (k, _), said in zip(part, answer, strict=True)}
        if self.cache is not None:
            self.cache.put({k: json.dumps([s.value, s.members, s.tokens]) for k, s in fresh.items()
                            if s.value is not None})
        known |= fresh
        return [known[k] for k in keys]

    # --- questions -----------------------------------------------------------------------------------------

    def _parts(self, rows: list[tuple[str, _Row]]) -> list[list[tuple[str, _Row]]]:
        """Requests of at most `batch` rows and about a million characters; of one prompt where that is the shape."""
        parts: list[list[tuple[str, _Row]]] = []
        size = 0
        for key, row in rows:
            length = sum(len(str(x)) for x in (row.prompt, row.completion, *row.told.values()))
            alone = self.kind == "vllm" and self.text is None and not all(isinstance(x, str) for x in row[:2])
            other = self.kind == "rerank" and parts and parts[-1][-1][1].prompt != row.prompt
            if not parts or alone or other or len(parts[-1]) >= self.batch or size + length > LONGEST:
                parts.append([])
                size = 0
            parts[-1].append((key, row))
            size += length if not alone else LONGEST
        return parts

    def _part(self, part: Sequence[tuple[str, _Row]]) -> list[Said]:
        rows = [row for _, row in part]
        try:
            question = self._question(rows)
        except Exception as error:  # the border: a template may refuse a conversation
            return [Said(None, why=describe_failure(self.name, error))] * len(rows)
        try:
            said = _READ[self.kind](self.client.post(self.path, question), len(rows))
        except Failed as failure:
            return [Said(None, why=failure.reason)] * len(rows)
        except (BadInput, KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            what = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
            return [Said(None, why=f"{self.name} answered nonsense: {' '.join(what.split())[:200]}")] * len(rows)
        return [s if s.value is None or math.isfinite(s.value) else Said(None, why=f"{self.name} answered {s.value}")
                for s in said]

    def _question(self, rows: Sequence[_Row]) -> dict[str, Any]:
        named = {} if self.model is None else {"model": self.model}
        if self.kind == "plaudit":
            return {**as_columns([row.told for row in rows]), "prompts": [row.prompt for row in rows],
                    "completions": [row.completion for row in rows], "members": True, "per_token": self.per_token,
                    **named}
        if self.kind == "openrlhf":
            return {"query": [self._text(*row[:2]) for row in rows], "labels": [""] * len(rows),
                    "prompts": [plain_text(row.prompt) for row in rows], **named}
        if self.kind == "rerank":
            return {"query": plain_text(rows[0].prompt), "documents": [plain_text(row.completion) for row in rows],
                    **named}
        plain = {"use_activation": False, **named}
        if self.text is None and not all(isinstance(x, str) for row in rows for x in row[:2]):
            return {"messages": [*_messages(rows[0].prompt, "user"), *_messages(rows[0].completion, "assistant")],
                    **plain}
        return {"input": [self._text(*row[:2]) for row in rows], "add_special_tokens": False, **plain}

    def _text(self, prompt: Any, completion: Any) -> str:
        if self.text is not None:
            return self.text(prompt, completion)
        if isinstance(prompt, str) and isinstance(completion, str):
            return prompt + completion
        raise BadInput("text", expected=f"a function that makes one string of a conversation, for {self.kind}",
                       received="None", fix="pass text=format.text")

    def _key(self, row: _Row) -> str:
        asked = json.dumps([self.client.url, self.path, self.kind, self.model, self.per_token, *row[:2],
                            None if self.text is None else self.text(*row[:2]), *([row.told] if row.told else [])],
                           sort_keys=True, default=str)
        return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()


_FIXES: Mapping[str, str] = {
    "status 401": f"put the bearer token into the variable {TOKEN}",
    "status 403": f"put the bearer token into the variable {TOKEN}",
    "status 404": "the path and the kind say what a server speaks: plaudit, openrlhf (/get_reward), vllm (/classify, "
                  "/pooling) or rerank (/rerank)",
    "status 405": "the path and the kind say what a server speaks: plaudit, openrlhf, vllm or rerank",
    "nonsense": "the kind says what a server speaks: plaudit, openrlhf, vllm or rerank",
    "no JSON": "the kind says what a server speaks: plaudit, openrlhf, vllm or rerank",
    "refused": "nobody listens there: start the server, or mend the address",
    "gaierror": "no machine has this name",
}
"""What helps against a failure that has one of these words."""


# --- answers ---------------------------------------------------------------------------------------------


def _read_plaudit(answer: Any, n: int) -> list[Said]:
    values, why = _of_length(answer["scores"], n), _of_length(answer["why"], n)
    members = _of_length(answer.get("members") or [[]] * n, n)
    tokens = _of_length(answer.get("tokens") or [None] * n, n)
    return [Said(None if v is None else _number(v), tuple(_number(x) for x in m),
                 None if t is None else tuple(_number(x) for x in t), str(w or ""))
            for v, m, t, w in zip(values, members, tokens, why, strict=True)]


def _read_openrlhf(answer: Any, n: int) -> list[Said]:
    return [Said(_number(v)) for v in _of_length(answer["rewards"], n)]


def _read_vllm(answer: Any, n: int) -> list[Said]:
    entries = sorted(_of_length(answer["data"], n), key=lambda e: e["index"])
    if [e["index"] for e in entries] != list(range(n)):
        raise BadInput("data", expected=f"the indices 0 to {n - 1}", received=str([e["index"] for e in entries])[:80])
    return [Said(_number(e["score"] if "score" in e else e["probs"] if "probs" in e else e["data"])) for e in entries]


def _read_rerank(answer: Any, n: int) -> list[Said]:
    found = {r["index"]: _number(r["relevance_score"]) for r in answer["results"]}
    if set(found) != set(range(n)):
        raise BadInput("results", expected=f"each index from 0 to {n - 1}", received=str(sorted(found))[:80])
    return [Said(found[i]) for i in range(n)]


_READ: Mapping[str, Callable[[Any, int], list[Said]]] = {
    "plaudit": _read_plaudit, "openrlhf": _read_openrlhf, "vllm": _read_vllm, "rerank": _read_rerank}


def _of_length(value: Any, n: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != n:
        raise BadInput("answer", expected=f"a list with {n} entries",
                       received=f"{len(value)} entries" if isinstance(value, list) else f"{value!r:.60}")
    return value


def _number(value: Any) -> float:
    """A number, also where it stands alone in a list, as a tensor of shape [1] is written."""
    while isinstance(value, list):
        if len(value) != 1:
            raise BadInput("answer", expected="one number for each text", received=f"{value!r:.60}",
                           fix="a model with several labels is no reward")
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput("answer", expected="a number", received=f"{value!r:.60}")
    return float(value)


def _said(kept: Any) -> Said:
    value, members, tokens = kept
    return Said(value, tuple(members), None if tokens is None else tuple(tokens))


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers and arrays of libraries as numbers and lists, dates and the like as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _messages(value: Any, role: str) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [{"role": role, "content": str(value)}]


def _as_score(said: Sequence[Said], episodes: Tokens, *, per_token: bool) -> Score:
    """Numbers at the last step of each row, or one for each step."""
    shape, H = episodes.mask.shape, max((len(s.members) for s in said), default=0)
    value = torch.zeros(shape)
    members = torch.zeros((H, *shape)) if H > 1 and not per_token else None
    why: dict[str, torch.Tensor] = {}
    last, mask = episodes.last.tolist(), episodes.mask.cpu()
    for b, one in enumerate(said):
        reason = one.why
        if one.value is None:
            value[b, last[b]] = torch.nan
        elif not per_token:
            value[b, last[b]] = one.value
            if members is not None:
                members[:, b, last[b]] = torch.tensor(one.members if len(one.members) == H else [torch.nan] * H)
        elif one.tokens is not None and len(one.tokens) == int(mask[b].sum()):
            value[b, mask[b]] = torch.tensor(one.tokens)
        else:
            reason = "the server's tokens are not the steps of these episodes"
            value[b, mask[b]] = torch.nan
        if reason:
            why.setdefault(reason, torch.zeros(shape, dtype=torch.bool))[b] = True
    return Score.of(value.to(episodes.device), mask=episodes.mask,
                    members=None if members is None else members.to(episodes.device),
                    why={r: m.to(episodes.device) for r, m in why.items()})
