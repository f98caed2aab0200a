"""A plain function of texts as a Reward: of one completion, of a batch, or of all completions of a prompt."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args, overload

import torch

from plaudit.core.consent import load_with_consent
from plaudit.core.episodes import Episodes
from plaudit.core.errors import RAISED, BadInput
from plaudit.core.limits import call_within
from plaudit.core.naming import source_of
from plaudit.core.needs import Across, Needs, Reads
from plaudit.core.reward import UNBOUNDED, Range, Reward, describe_failure
from plaudit.core.score import Score
from plaudit.core.tokens import DERIVED, Tokens
from plaudit.specify.text.pool import Pool
from plaudit.specify.text.reading import Failed, Per, Places, Sheet, split_batch
from plaudit.specify.text.steps import Decode, split_steps, step_ends

Form = Literal["row", "batch"]
PLURALS = {"prompts": "prompt", "completions": "completion", "prompt_texts": "prompt_text",
           "completion_texts": "completion_text"}
"""What a function of many completions calls their columns; other columns keep their names."""
HANDED = ("trainer_state", "log_extra", "log_metric", "environments")
"""What TRL passes beside columns; a function that asks for them gets None, or a log that keeps nothing."""
IGNORE = operator.is_
"""Takes two of anything and does nothing, in every process."""


class TextFunction(Reward):
    """A function of named columns; made by `text_reward`, which explains the arguments."""

    def __init__(self, fn: Callable[..., Any], *, name: str, weights: Mapping[str, float], form: Form = "row",
                 across: Across = "row", per: Per = "completion", separator: str = "\n\n", tokenizer: Any = None,
                 range: Range = UNBOUNDED, pool: Pool | None = None, time_limit_s: float | None = None,
                 columns: Mapping[str, str] | None = None) -> None:
        self.columns = dict(columns or {})
        self.fn, self.name, self.weights, self.form = fn, name, dict(weights), form
        self.per: Per = per
        self.separator, self.tokenizer, self.limits = separator, tokenizer, range
        self.range = (min(0.0, range[0]), max(0.0, range[1]))  # tokens where nothing is paid get 0
        self.pool, self.time_limit_s = pool, time_limit_s
        self.needs = Needs(time="episode", across=across)
        parameters = inspect.signature(fn).parameters.values()
        self.greedy = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.required = [p.name for p in named if p.default is p.empty]
        self.optional = [p.name for p in named if p.default is not p.empty]

    @property
    def reads(self) -> Reads:
        """Its arguments by the columns that they are; texts and what a trainer hands over aside."""
        own = {*DERIVED, *PLURALS, *HANDED, "completion_ids", *(["steps"] if self.per == "step" else [])}
        required, optional = (frozenset(self.columns.get(n, n) for n in names) - own
                              for names in (self.required, self.optional))
        return Reads(required=required, optional=optional, anything=self.greedy)

    # --- scoring ----------------------------------------------------------------------------------------

    def evaluate(self, episodes: Episodes) -> Score:
        columns = dict(episodes.columns) if isinstance(episodes, Tokens) else {}
        if self.per == "step" and "completion_text" in columns:
            columns["steps"] = [split_steps(text, self.separator) for text in columns["completion_text"]]
        columns |= {argument: columns[column] for argument, column in self.columns.items() if column in columns}
        self._check(columns)
        answers = self._answers(columns, self._groups(episodes))
        sheet = Sheet(self.name, episodes.mask.cpu(), self.weights, self.limits)
        for row in range_of(episodes.B):
            sheet.write(row, answers[row], self._places(episodes, columns, row))
        return self._score(sheet, episodes)

    @property
    def one_by_one(self) -> bool:
        """Whether rows are calls of their own, one after the other, each within a time limit of this process."""
        return self.form == "row" and self.pool is None and self.time_limit_s is not None and not is_async(self.fn)

    def warm_up(self) -> None:
        """Starts the workers of the pool, so that the first answer is quick."""
        if self.pool is not None:
            self.pool.start(self.fn)

    def _groups(self, episodes: Episodes) -> list[list[int]]:
        """The rows that are asked about in one call."""
        everyone = list(range_of(episodes.B))
        if self.form == "row":
            return [[b] for b in everyone]
        if self.needs.across != "group":
            return [everyone] if everyone else []
        if episodes.group is None:
            raise BadInput("episodes.group", expected="which rows share a prompt", received="none",
                           fix="make them with of_texts")
        groups: dict[int, list[int]] = {}
        for b, g in enumerate(cast("list[int]", episodes.group.tolist())):
            groups.setdefault(g, []).append(b)
        return list(groups.values())

    def _answers(self, columns: Mapping[str, Sequence[Any]], groups: Sequence[list[int]]) -> dict[int, Any]:
        """What was said of each row. A batch that fails is asked about row by row, so that one row costs one answer."""
        said = self._ask([self._inputs(columns, rows) for rows in groups])
        answers: dict[int, Any] = {}
        again: list[int] = []
        for rows, one in zip(groups, said, strict=True):
            if self.form == "row":
                answers[rows[0]] = one
            elif not isinstance(one, Failed):
                answers |= zip(rows, split_batch(one, len(rows), self.name), strict=True)
            elif self.needs.across == "row" and len(rows) > 1:
                again += rows
            else:
                answers |= dict.fromkeys(rows, one)
        if again:
            single = self._ask([self._inputs(columns, [b]) for b in again])
            answers |= {b: one if isinstance(one, Failed) else split_batch(one, 1, self.name)[0]
                        for b, one in zip(again, single, strict=True)}
        return answers

    def _inputs(self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> dict[str, Any]:
        """The arguments of one call."""
        wanted = [*self.required, *self.optional]
        if self.form == "row":
            names = [*wanted, *(n for n in columns if n not in (*DERIVED, *wanted))] if self.greedy else wanted
            return {n: columns[n][rows[0]] for n in names if n in columns}
        if self.greedy:
            wanted += [n for n in ("prompts", "completions", *columns) if n not in (*wanted, *DERIVED)]
        inputs: dict[str, Any] = {}
        for name in wanted:
            column = PLURALS.get(name, name)
            if name in HANDED:
                inputs[name] = IGNORE if name.startswith("log_") else None
            elif name in ("prompt", "prompt_text") and name in columns:
                inputs[name] = columns[name][rows[0]]
            elif column in columns:
                inputs[name] = [columns[column][b] for b in rows]
        return inputs

    def _ask(self, calls: Sequence[dict[str, Any]]) -> list[Any]:
        """What the function says to each call; `Failed` where it does not answer."""
        if self.pool is not None:
            return [Failed(f"{self.name}: {o.why}") if o.why else o.value for o in self.pool.map(self.fn, calls)]
        if is_async(self.fn):
            return run_async(self._ask_together(calls))
        return [self._ask_once(inputs) for inputs in calls]

    def _ask_once(self, inputs: dict[str, Any]) -> Any:
        try:
            said = call_within(self.time_limit_s, lambda: self.fn(**inputs), what=self.name)
            return run_async(said) if inspect.isawaitable(said) else said
        except RAISED as error:  # the border: whatever it raises makes one answer unknown, with its reason
            return Failed(describe_failure(self.name, error))

    async def _ask_together(self, calls: Sequence[dict[str, Any]]) -> list[Any]:
        async def one(inputs: dict[str, Any]) -> Any:
            try:
                return await self.fn(**inputs)
            except RAISED as error:  # the border again, inside the task: a SystemExit that leaves it ends the loop
                return Failed(describe_failure(self.name, error))

        async def in_time(inputs: dict[str, Any]) -> Any:
            try:
                return await asyncio.wait_for(one(inputs), self.time_limit_s)
            except TimeoutError:
                return Failed(f"{self.name} did not answer within {self.time_limit_s:g} s")

        return list(await asyncio.gather(*(in_time(inputs) for inputs in calls)))

    def _check(self, columns: Mapping[str, Sequence[Any]]) -> None:
        here = {*columns, *(p for p, one in PLURALS.items() if one in columns and self.form == "batch"),
                *(HANDED if self.form == "batch" else ())}
        lacking = [n for n in self.required if n not in here]
        if lacking:
            names = ", ".join(self.columns.get(n, n) for n in lacking)
            raise BadInput(f"{self.name}: {names}", received="no such column",
                           expected=f"columns out of {', '.join(columns) or 'none'}")

    def _places(self, episodes: Episodes, columns: Mapping[str, Sequence[Any]], row: int) -> Places:
        T = int(episodes.last[row]) + 1
        if self.per != "step":
            return Places(self.per, (), T)
        ids = columns["completion_ids"][row] if "completion_ids" in columns else None
        ends = step_ends(columns["completion_text"][row], self.separator, ids, _decoder(self.tokenizer))
        return Places("step", tuple(ends), T)

    def _score(self, sheet: Sheet, episodes: Episodes) -> Score:
        lost = torch.isnan(sheet.value)
        for name in self.weights:  # declared terms have a place in a log also where all is unknown
            sheet.terms.setdefault(name, torch.zeros_like(sheet.value))
        return Score.of(sheet.value.to(episodes.device), mask=episodes.mask, weights=self.weights,
                        terms={n: torch.where(lost, torch.nan, sheet.terms[n]).to(episodes.device)
                               for n in (*self.weights, *(n for n in sheet.terms if n not in self.weights))},
                        why={r: m.to(episodes.device) for r, m in sheet.why.items()})

    # --- saving -----------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """How it is made again; the function by its name and the hash of its file."""
        fn, keywords = self.fn, dict[str, Any]()
        if isinstance(fn, functools.partial) and not fn.args:
            fn, keywords = fn.func, dict(fn.keywords)
        low, high = self.limits
        return {"fn": source_of(fn, what=self.name), "keywords": keywords, "name": self.name, "weights": self.weights,
                "form": self.form, "across": self.needs.across, "per": self.per, "separator": self.separator,
                "range": [low if math.isfinite(low) else None, high if math.isfinite(high) else None],
                "pool": self.pool.options() if self.pool else None, "time_limit_s": self.time_limit_s,
                "columns": self.columns}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, trust: bool = False) -> TextFunction:
        """Makes it again; the tokenizer, if it had one, is given anew as `reward.tokenizer = ...`."""
        options = dict(spec)
        thing = load_with_consent(options.pop("fn"), trust=trust, what="saved reward").thing
        fn = thing.fn if isinstance(thing, TextFunction) else thing
        keywords, limits, pool = options.pop("keywords"), options.pop("range"), options.pop("pool")
        bounds = (-math.inf if limits[0] is None else limits[0], math.inf if limits[1] is None else limits[1])
        return cls(partial(fn, **keywords) if keywords else fn, range=bounds, pool=Pool(**pool) if pool else None,
                   **options)

    def __reduce__(self) -> Any:
        """A decorated function's own name now stands for its reward: it is found again by that name."""
        module, name = getattr(self.fn, "__module__", ""), getattr(self.fn, "__qualname__", "<lambda>")
        try:
            decorated = operator.attrgetter(name)(sys.modules[module]) is self
        except (KeyError, AttributeError):
            decorated = False
        if decorated:
            return _named, (module, name)
        options: dict[str, Any] = {
            "name": self.name, "weights": self.weights, "form": self.form, "across": self.needs.across,
            "per": self.per, "separator": self.separator, "tokenizer": self.tokenizer, "range": self.limits,
            "pool": self.pool, "time_limit_s": self.time_limit_s, "columns": self.columns}
        return _remade, (type(self), self.fn, options, self.role)


range_of = range
"""`range` is also what a reward may be worth."""


@overload
def text_reward(fn: Callable[..., Any], /, *, name: str = ..., terms: Sequence[str] | Mapping[str, float] = ...,
                across: Across = ..., per: Per = ..., separator: str = ..., tokenizer: Any = ..., range: Range = ...,
                pool: Pool | None = ..., time_limit_s: float | None = ...,
                columns: Mapping[str, str] | None = ...) -> TextFunction: ...
@overload
def text_reward(fn: None = None, /, *, name: str = ..., terms: Sequence[str] | Mapping[str, float] = ...,
                across: Across = ..., per: Per = ..., separator: str = ..., tokenizer: Any = ..., range: Range = ...,
                pool: Pool | None = ..., time_limit_s: float | None = ...,
                columns: Mapping[str, str] | None = ...) -> Callable[[Callable[..., Any]], TextFunction]: ...


def text_reward(fn: Callable[..., Any] | None = None, /, *, name: str = "",
                terms: Sequence[str] | Mapping[str, float] = (), across: Across = "row", per: Per = "completion",
                separator: str = "\n\n", tokenizer: Any = None, range: Range = UNBOUNDED, pool: Pool | None = None,
                time_limit_s: float | None = None, columns: Mapping[str, str] | None = None) -> Any:
    """Makes a Reward of a function of texts; works as a decorator, with or without arguments.

    A function of one completion takes columns by name: `prompt`, `completion` (texts or lists of messages),
    `prompt_text`, `completion_text` (what the last message says), `completion_ids`, `steps`, and those of a data set.
    A function that takes `prompts`, `completions` or `completion_texts` is one of a batch, as TRL's `reward_funcs`
    are: it gets lists by name and returns a list with an answer for each. Both may be `async`.

    An answer is a number, a dictionary of named terms (their weighted sum is the reward), `(number, terms)`, or None
    for "cannot say"; for `per="step"` or `"token"` a list of numbers stands for a number. What is None, NaN, infinite
    or outside `range`, and what raises or is late, is unknown: never zero.

    Args:
        fn: The function.
        name: How it is called in logs (the function's own name).
        terms: Names of the terms of a dictionary result, or their weights (1 each).
        across: `group` for a function of a batch that compares all completions of one prompt, and is called once a
            prompt; `batch` for one that compares whatever is scored together.
        per: Whether there is a number for each completion, each step of its text, or each token. Numbers are paid at
            the token that they end at.
        separator: What stands between two steps of a text; they are the column `steps`.
        tokenizer: Of the completions; finds the token at which a step ends (`decode(ids)`).
        range: The smallest and largest value; a value outside is unknown.
        pool: Worker processes with a hard limit on time and memory (`plaudit.specify.text.Pool`).
        time_limit_s: Without a pool: a limit on a call, which native code that hangs does not heed.
        columns: Arguments of the function whose column has another name, as `{"answer": "solution"}`.

    Raises:
        BadInput: when the function cannot be called like that.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> @text_reward
        ... def exact(completion_text, answer):
        ...     return None if answer is None else float(completion_text.strip() == answer)
        >>> exact.score(of_texts(["2 + 2?"] * 3, ["4", "5", "6"], answer=["4", "4", None])).value[:, 0].tolist()
        [1.0, 0.0, nan]
        >>> @text_reward(across="group")
        ... def shortest(completions):
        ...     return [len(c) == min(map(len, completions)) for c in completions]
        >>> shortest(of_texts(["hm"] * 2, ["yes", "no"])).flatten().tolist()
        [0.0, 1.0]
    """
    if fn is None:
        return partial(text_reward, name=name, terms=terms, across=across, per=per, separator=separator,
                       tokenizer=tokenizer, range=range, pool=pool, time_limit_s=time_limit_s, columns=columns)
    if not callable(fn):
        raise BadInput("fn", expected="a function", received=type(fn).__name__)
    if per not in get_args(Per):
        raise BadInput("per", expected=f"one of {', '.join(get_args(Per))}", received=per)
    if not range[0] <= range[1]:
        raise BadInput("range", expected="(smallest, largest)", received=range)
    if pool is not None and time_limit_s is not None:
        raise BadInput("time_limit_s", expected="none, as the pool has one", received=time_limit_s,
                       fix="pass Pool(time_limit_s=...)")
    parameters = inspect.signature(fn).parameters
    many = [n for n in PLURALS if n in parameters]
    if across != "row" and not many:
        raise BadInput("across", expected="a function that takes completions, a list", received=list(parameters),
                       fix="rename completion to completions")
    bare = _bare(fn)
    weights = dict(terms) if isinstance(terms, Mapping) else dict.fromkeys(terms, 1.0)
    return TextFunction(fn, name=name or getattr(bare, "__name__", type(bare).__name__), weights=weights,
                        form="batch" if many else "row", across=across, per=per, separator=separator,
                        tokenizer=tokenizer, range=range, pool=pool, time_limit_s=time_limit_s, columns=columns)


def run_async(awaitable: Any) -> Any:
    """The result of something that is awaited, from plain code, also where a loop is running already."""

    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, wait()).result()


def _bare(fn: Any) -> Any:
    """The function in a partial."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn


def is_async(fn: Any) -> bool:
    """Whether a call of it is awaited."""
    bare = _bare(fn)
    return inspect.iscoroutinefunction(bare) or inspect.iscoroutinefunction(vars(type(bare)).get("__call__"))


def _decoder(tokenizer: Any) -> Decode | None:
    return None if tokenizer is None else partial(tokenizer.decode, skip_special_tokens=True)


def _named(module: str, name: str) -> Any:
    return operator.attrgetter(name)(importlib.import_module(module))


def _remade(cls: type[TextFunction], fn: Callable[..., Any], options: dict[str, Any], role: Any) -> TextFunction:
    made = cls(fn, **options)
    made.role = role
    return made
