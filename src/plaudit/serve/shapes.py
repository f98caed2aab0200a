"""The request shapes: plaudit's own, OpenRLHF's, rerank (Cohere, Jina, vLLM) and vLLM's pooling, classify and score.

OpenRLHF: `openrlhf/cli/serve_rm.py` (repository OpenRLHF/OpenRLHF, commit 3c3be62). vLLM: the `protocol.py` and
`serving.py` files under `vllm/entrypoints/pooling/` (repository vllm-project/vllm; commits beside
`tests/serve/wire_shapes.json`). As there, the shapes of vLLM give sigmoid(score) unless `use_activation` is false where
a model is activated at all: a classifier with one label, not one whose `problem_type` is regression, as plaudit saves.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plaudit.core.errors import BadInput
from plaudit.learn.text.scored import Scored
from plaudit.serve.limits import Refused
from plaudit.serve.wire import Ask, Body, flag, listed, optional_text, shown, spoken, text
from plaudit.specify.text.columns import TEXTS

_OWN = frozenset({*TEXTS, "model", "per_token", "members"})
"""Fields of a request that are no columns."""
VLLM_PAIRS = (("queries", "documents"), ("queries", "items"), ("text_1", "text_2"), ("data_1", "data_2"))


def score(body: Body) -> Ask:
    """`{"prompt": ..., "completions": [...]}`, or `prompts` and `completions` one by one; or vLLM's score shapes.

    Further fields are what a verifier reads, such as the right `answer`: of the prompt; beside `prompts`, a list
    has as many entries and says one thing of each.
    """
    for first, second in VLLM_PAIRS:
        if first in body and second in body:
            return _vllm_score(body, first, second)
    completions = [spoken(c, f"completions[{i}]") for i, c in enumerate(listed(body, "completions"))]
    if "prompts" in body:
        prompts = [spoken(p, f"prompts[{i}]") for i, p in enumerate(listed(body, "prompts"))]
        if len(prompts) != len(completions):
            raise BadInput("completions", expected=f"one for each of {len(prompts)} prompts",
                           received=len(completions), fix="several completions of one prompt go with `prompt`")
    else:
        prompts = [spoken(body.get("prompt"), "prompt")] * len(completions)
    per_token, members = flag(body, "per_token"), flag(body, "members")
    told = {name: _one_each(name, value, len(completions)) if "prompts" in body else [value] * len(completions)
            for name, value in body.items() if name not in _OWN}

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        out: dict[str, Any] = {"model": model, "scores": [r.value for r in rows], "why": [r.why or None for r in rows],
                               "cut": [r.cut for r in rows], "usage": _usage(rows)}
        if members:
            out["members"] = [list(r.members) for r in rows]
        if per_token:
            out["tokens"] = [None if r.tokens is None else list(r.tokens) for r in rows]
        return out

    return Ask(prompts=prompts, completions=completions, columns=told, per_token=per_token,
               model=optional_text(body, "model"), answer=answer)


def _one_each(name: str, value: Any, rows: int) -> list[Any]:
    """What a field says of each row: a list says one thing of each, anything else the same of all."""
    if not isinstance(value, list):
        return [value] * rows
    if len(value) != rows:
        raise BadInput(name, expected=f"one entry for each of {rows} prompts", received=len(value),
                       fix="a list that is meant for each row goes into a list of lists")
    return value


def get_reward(body: Body) -> Ask:
    """OpenRLHF: `{"query": [text, ...], "prompts": [...], "labels": [...]}`; a query is the whole text."""
    queries = listed(body, "query")
    for i, query in enumerate(queries):
        if not isinstance(query, str):
            raise BadInput(f"query[{i}]", expected="a string", received=shown(query))

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        values = _all_known(rows)
        return {"rewards": values, "scores": values, "extra_logs": {}}

    return Ask(prompts=[""] * len(queries), completions=queries, raw=True, answer=answer)


def rerank(body: Body) -> Ask:
    """Cohere, Jina and vLLM: `{"query": ..., "documents": [...], "top_n": ..., "return_documents": ...}`."""
    query, documents = text(body, "query"), listed(body, "documents")
    texts = [d.get("text") if isinstance(d, dict) else d for d in documents]
    for i, document in enumerate(texts):
        if not isinstance(document, str):
            raise BadInput(f"documents[{i}]", expected='a string, or an object with a "text"', received=shown(document))
    top = body.get("top_n")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
        raise BadInput("top_n", expected="an integer >= 1", received=shown(top), fix="leave it out for all documents")
    with_documents = body.get("return_documents", True)

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        values = _all_known(rows)
        order = sorted(range(len(rows)), key=lambda i: -values[i])[:top]
        results = [{"index": i, "relevance_score": values[i],
                    **({"document": {"text": texts[i]}} if with_documents else {})} for i in order]
        return {"id": f"rerank-{uuid.uuid4().hex}", "model": model, "usage": _usage(rows), "results": results}

    return Ask(prompts=[query] * len(texts), completions=texts, model=optional_text(body, "model"), answer=answer,
               activated=_active(body))


def pooling(body: Body) -> Ask:
    """vLLM's `/pooling`: `input` or `messages`; `task` classify (one number) or token_classify (one for each token)."""
    task = body.get("task") or "classify"
    if task not in ("classify", "token_classify"):
        raise BadInput("task", expected="classify or token_classify", received=shown(task))
    if body.get("encoding_format", "float") != "float":
        raise BadInput("encoding_format", expected="float", received=shown(body["encoding_format"]))

    def data(row: Scored, value: float) -> Any:
        if task == "token_classify" and row.tokens is not None:
            return [[v] for v in row.tokens]
        return [value]

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        return _listing("pooling", model, rows, [
            {"index": i, "object": "pooling", "data": data(r, v)}
            for i, (r, v) in enumerate(zip(rows, _all_known(rows), strict=True))])

    return _vllm_ask(body, answer, per_token=task == "token_classify")


def classify(body: Body) -> Ask:
    """vLLM's `/classify`: `input` or `messages`; the one class is the reward."""

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        return _listing("classify", model, rows, [
            {"index": i, "label": "LABEL_0", "probs": [v], "num_classes": 1}
            for i, v in enumerate(_all_known(rows))])

    return _vllm_ask(body, answer)


SHAPES = {"/score": score, "/v1/score": score, "/get_reward": get_reward, "/rerank": rerank, "/v1/rerank": rerank,
          "/v2/rerank": rerank, "/pooling": pooling, "/classify": classify}
"""The parser of each path."""


def _vllm_score(body: Body, first: str, second: str) -> Ask:
    """One against many, or one by one (vLLM's `queries` and `documents` and their older names)."""
    sides = [[v] if isinstance(v := body[name], str) else listed(body, name) for name in (first, second)]
    for name, side in zip((first, second), sides, strict=True):
        for i, value in enumerate(side):
            if not isinstance(value, str):
                raise BadInput(f"{name}[{i}]", expected="a string", received=shown(value))
    left, right = sides
    if len(left) not in (1, len(right)):
        raise BadInput(second, expected=f"one for each of {len(left)} {first}", received=len(right))

    def answer(model: str, rows: Sequence[Scored]) -> dict[str, Any]:
        return _listing("score", model, rows, [{"index": i, "object": "score", "score": v}
                                               for i, v in enumerate(_all_known(rows))])

    return Ask(prompts=left * len(right) if len(left) == 1 else left, completions=right, answer=answer,
               model=optional_text(body, "model"), activated=_active(body))


def _vllm_ask(body: Body, answer: Any, *, per_token: bool = False) -> Ask:
    model = optional_text(body, "model")
    if "messages" in body:
        messages = spoken(listed(body, "messages"), "messages")
        return Ask(prompts=[messages[:-1]], completions=[messages[-1:]], model=model, per_token=per_token,
                   answer=answer, activated=_active(body))
    given = body.get("input")
    inputs = listed(body, "input") if isinstance(given, list) and not _are_ids(given) else [given]
    for i, one in enumerate(inputs):
        if not (isinstance(one, str) or _are_ids(one)):
            raise BadInput(f"input[{i}]", expected="a string, or a list of token ids", received=shown(one))
    return Ask(prompts=[""] * len(inputs), completions=inputs, raw=True, model=model, per_token=per_token,
               answer=answer, activated=_active(body))


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0
                                                          for v in value)


def _listing(prefix: str, model: str, rows: Sequence[Scored], data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": model,
            "data": data, "usage": {**_usage(rows), "completion_tokens": 0}}


def _usage(rows: Sequence[Scored]) -> dict[str, int]:
    tokens = sum(r.length for r in rows)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _active(body: Body) -> bool:
    value = body.get("use_activation")
    if value is not None and not isinstance(value, bool):
        raise BadInput("use_activation", expected="true, false or null", received=shown(value))
    return value is not False


def activated(row: Scored) -> Scored:
    """The sigmoid of a row's numbers.

    Example:
        >>> activated(Scored(value=0.0)).value
        0.5
    """
    return replace(row, value=None if row.value is None else _sigmoid(row.value),
                   tokens=None if row.tokens is None else tuple(map(_sigmoid, row.tokens)))


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _all_known(rows: Sequence[Scored]) -> list[float]:
    """The numbers; shapes that know no 'unknown' refuse rather than invent one."""
    missing = [i for i, r in enumerate(rows) if r.value is None]
    if missing:
        raise Refused(422, "unknown_reward", f"{len(missing)} of {len(rows)} scores are unknown; entry {missing[0]}: "
                                             f"{rows[missing[0]].why}", fix="POST /score answers null for those alone")
    return [float(r.value) for r in rows if r.value is not None]
