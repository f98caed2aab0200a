"""Verifiers of final answers: exact ones in a declared format, mathematics, and the scorers of reasoning-gym."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.core.errors import BadInput
from plaudit.specify.text.answers import AnswerFormat, same_answer
from plaudit.specify.text.functions import TextFunction
from plaudit.specify.text.pool import Pool

Which = Literal["only", "first", "last"]


class Verifier(TextFunction):
    """A reward in [0, 1] of a final answer, made again from its options alone."""

    def __init__(self, fn: Callable[..., Any], options: Mapping[str, Any], *, name: str, columns: Mapping[str, str],
                 pool: Pool | None, time_limit_s: float | None = None) -> None:
        super().__init__(fn, name=name, weights={}, range=(0.0, 1.0), pool=pool, columns=columns,
                         time_limit_s=time_limit_s)
        self.options = {**options, "name": name}

    def spec(self) -> dict[str, Any]:
        """How it is made again."""
        return {**self.options, "pool": self.pool.options() if self.pool else None}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, trust: bool = False) -> Verifier:
        """Makes it again."""
        options = dict(spec)
        pool = options.pop("pool")
        make: Any = cls
        return make(**options, pool=Pool(**pool) if pool else None)

    def __reduce__(self) -> Any:
        return _again, (type(self), {**self.options, "pool": self.pool}, self.role)


class ExactAnswer(Verifier):
    """1 where the answer in its declared place is the gold answer, up to spaces, case and the way a number is written.

    A completion without an answer in that place gets 0, and so does one with several where `which` is `only`: an
    answer among many is no answer. A row without a gold answer (None, or no more than blanks) is
    unknown.

    Args:
        format: Where the answer stands: a text with `...` for it.
        answer: The column of the gold answer (a text or a number, or a list of several that are right).
        which: Of several answers, the `first`, the `last`, or `only` one is allowed.
        numbers: Whether `0.5`, `1/2` and `50%` are the same.
        case: Whether capitals matter.
        name: How it is called in logs.
        pool: Worker processes; it is quick and safe without.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> texts = ["<answer>0.5</answer>", "0.5", "<answer>2</answer>"]
        >>> rows = of_texts(["half of 1?"] * 3, texts, answer=["1/2"] * 3)
        >>> ExactAnswer("<answer>...</answer>")(rows).flatten().tolist()
        [1.0, 0.0, 0.0]
    """

    def __init__(self, format: str = "<answer>...</answer>", *, answer: str = "answer", which: Which = "last",
                 numbers: bool = True, case: bool = False, name: str = "exact_answer",
                 pool: Pool | None = None) -> None:
        if which not in ("only", "first", "last"):
            raise BadInput("which", expected="only, first or last", received=which)
        options = {"format": format, "answer": answer, "which": which, "numbers": numbers, "case": case}
        super().__init__(_Exact(AnswerFormat(format), which, numbers, case), options, name=name, pool=pool,
                         columns={"answer": answer})


class MathAnswer(Verifier):
    """1 where math-verify finds the completion's answer to be mathematically the gold one, else 0.

    A gold answer that math-verify cannot parse makes the row unknown: it would match whatever cannot be parsed either.
    Parsing runs in worker processes with a hard limit, because expressions exist that keep sympy busy for ever.

    Args:
        answer: The column of the gold answer.
        format: Where the answer stands (`...` stands for it); without it, math-verify searches the completion.
        name: How it is called in logs.
        pool: Worker processes; by default two of them with 5 s for a call.

    Raises:
        MissingExtra: when math-verify is not installed.
    """

    def __init__(self, *, answer: str = "answer", format: str | None = None, name: str = "math_answer",
                 pool: Pool | None = None) -> None:
        from plaudit.specify.text.mathematics import SameMathematics

        options = {"answer": answer, "format": format}
        super().__init__(SameMathematics(AnswerFormat(format) if format else None), options, name=name,
                         columns={"answer": answer}, pool=pool or Pool(workers=2, time_limit_s=5.0))


class ReasoningGym(Verifier):
    """The score that a task of reasoning-gym gives an answer, in [0, 1].

    Args:
        task: The name of the data set, or None where a row's metadata names it (`source_dataset`).
        format: Where the answer stands (`...` stands for it); the last one counts.
        answer: The column of the gold answer.
        metadata: The column of what the task says of the row.
        question: The column of the question, for tasks that read it.
        name: How it is called in logs.
        pool: Worker processes.

    Raises:
        MissingExtra: when reasoning-gym is not installed.
    """

    def __init__(self, task: str | None = None, *, format: str = "<answer>...</answer>", answer: str = "answer",
                 metadata: str = "metadata", question: str = "prompt_text", name: str = "reasoning_gym",
                 pool: Pool | None = None) -> None:
        from plaudit.specify.text.gym_scores import GymScore

        options = {"task": task, "format": format, "answer": answer, "metadata": metadata, "question": question}
        super().__init__(GymScore(AnswerFormat(format), task), options, name=name, pool=pool,
                         columns={"answer": answer, "metadata": metadata, "question": question})


@dataclass(frozen=True)
class _Exact:
    format: AnswerFormat
    which: Which
    numbers: bool
    case: bool

    def __call__(self, completion_text: str, answer: Any) -> float | None:
        several = answer if isinstance(answer, list | tuple) else [answer]
        gold = [a for a in several if a is not None and str(a).strip()]
        if not gold:
            return None
        found = self.format.find(completion_text)
        if not found or (self.which == "only" and len(found) > 1):
            return 0.0
        given = found[0 if self.which == "first" else -1]
        return float(any(same_answer(given, str(g), numbers=self.numbers, case=self.case) for g in gold))


def _again(cls: Any, options: dict[str, Any], role: Any) -> Verifier:
    made = cls(**options)
    made.role = role
    return made
