"""Unit tests as a reward: the share of its tests that the code in a completion passes."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs, Reads
from plaudit.core.reward import Reward, describe_failure
from plaudit.core.score import Score
from plaudit.core.tokens import DERIVED, Tokens
from plaudit.specify.text.reading import at_the_end
from plaudit.specify.text.sandbox import CodeLimits, Run, Wall, run_python, said_aloud

log = logging.getLogger(__name__)
Count = Literal["all", "share"]
KEYS = ("call", "args", "returns"), ("stdin", "stdout")
"""What a test that is no statement may say, and has to say but for `args`."""
_FENCE = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


class CodeTests(Reward):
    """Runs the code of each completion against the tests of its row, cut off from everything else.

    The code is what stands in the last fenced block, or the whole text. Tests are a column of the rows: statements
    that raise where the code is wrong (a text or a list of texts); `{"call": name, "args": [...], "returns": value}`;
    or `{"stdin": text, "stdout": text}`. Only the last two kinds are compared out of the reach of the code.

    Code that is wrong, never ends, eats its memory or leaves before its tests are done fails them: that is known. What
    is cut off by the wall clock may have waited for a busy machine: that is unknown, as is a process that did not
    start. The isolation in force is logged once.

    Args:
        tests: The column of the tests.
        count: 1 where all tests pass (`all`), or the share of them (`share`).
        limits: What the code may take.
        require: Kinds of isolation without which nothing is run: `network`, `files`, `processes`.
        workers: How many are run at once.
        packages: Whether the code may import the packages of this environment.
        late: Whether code that is cut off by the wall clock is `unknown` or has `failed`.
        name: How it is called in logs.

    Raises:
        BadInput: for a wrong option.
        Unsupported: where the isolation that is required is not to be had.

    Example:
        >>> from plaudit.core.tokens import of_texts
        >>> rows = of_texts(["double?"] * 2, ["def f(x): return 2 * x", "def f(x): return 4"],
        ...                 tests=[[{"call": "f", "args": [2], "returns": 4}, "assert f(3) == 6"]] * 2)
        >>> CodeTests(count="share")(rows).flatten().tolist()
        [1.0, 0.5]
    """

    def __init__(self, *, tests: str = "tests", count: Count = "all", limits: CodeLimits | None = None,
                 require: Sequence[Wall] = (), workers: int = 2, packages: bool = False,
                 late: Literal["unknown", "failed"] = "unknown", name: str = "code_tests") -> None:
        for what, value, known in (("count", count, ("all", "share")), ("late", late, ("unknown", "failed"))):
            if value not in known:
                raise BadInput(what, expected=f"one of {', '.join(known)}", received=value)
        if workers < 1:
            raise BadInput("workers", expected="at least 1", received=workers)
        self.tests, self.count, self.limits, self.require = tests, count, limits or CodeLimits(), tuple(require)
        self.workers, self.packages, self.late, self.name = workers, packages, late, name
        self.needs, self.range = Needs(time="episode"), (0.0, 1.0)
        self._said = False
        if require:
            run_python("pass", require=require)

    @property
    def reads(self) -> Reads:
        return Reads(required=frozenset({self.tests}) - {*DERIVED})

    def evaluate(self, episodes: Episodes) -> Score:
        columns = episodes.columns if isinstance(episodes, Tokens) else {}
        for needed in ("completion_text", self.tests):
            if needed not in columns:
                raise BadInput(f"{self.name}: {needed}", expected=f"columns out of {', '.join(columns) or 'none'}",
                               received="no such column")
        if not self._said:
            log.warning("%s: %s", self.name, said_aloud())
            self._said = True
        with ThreadPoolExecutor(self.workers) as threads:
            results = list(threads.map(self._one, columns["completion_text"], columns[self.tests]))
        value = torch.tensor([torch.nan if isinstance(r, str) else r for r in results], device=episodes.device)
        why: dict[str, torch.Tensor] = {}
        for b, result in enumerate(results):
            if isinstance(result, str):
                why.setdefault(result, torch.zeros(episodes.B, dtype=torch.bool, device=episodes.device))[b] = True
        return Score.of(at_the_end(value, episodes), mask=episodes.mask,
                        why={r: at_the_end(m, episodes) for r, m in why.items()})

    def _one(self, text: str, tests: Any) -> float | str:
        """The reward of one completion, or why there is none."""
        try:
            passed = self.check(code_of(text), tests)
        except Exception as error:  # the border: tests that cannot be read, a process that does not start
            return describe_failure(self.name, error)
        if passed is None:
            return f"{self.name}: time limit: not done within {self.limits.wall_s:g} s"
        return sum(passed) / len(passed) if self.count == "share" else float(all(passed))

    def check(self, code: str, tests: Any) -> list[bool] | None:
        """Which tests the code passes; None where the wall clock cut it off and that is unknown.

        Raises:
            BadInput: when there are no tests, or one of them is none.
        """
        many = [tests] if isinstance(tests, str | Mapping) else list(tests or ())
        if not many:
            raise BadInput(f"{self.name}: {self.tests}", expected="at least one test", received="none")
        asserted = [t for t in many if isinstance(t, str)]
        for t in many:
            if not isinstance(t, str):
                self._check_keys(t)
        called, typed = ([t for t in many if isinstance(t, Mapping) and key in t] for key in ("call", "stdin"))
        passed: list[bool] = []
        if asserted or called:
            run = self._run(code, asserted, [(str(t["call"]), list(t.get("args", ()))) for t in called])
            if run.status == "time limit" and self.late == "unknown":
                return None
            passed += [why is None for why in run.tests]
            passed += [why is None and value == t["returns"]
                       for t, value, why in zip(called, run.values, run.failures, strict=True)]
        for t in typed:
            run = self._run(code, stdin=str(t["stdin"]))
            if run.status == "time limit" and self.late == "unknown":
                return None
            passed.append(run.status in ("finished", "left early") and run.stdout.split() == str(t["stdout"]).split())
        return passed

    def _check_keys(self, test: Any) -> None:
        """Whether a test that is no statement says all that it has to, and nothing else."""
        if not isinstance(test, Mapping) or not {"call", "stdin"} & set(test):
            raise BadInput(f"{self.name}: {self.tests}", received=repr(test)[:80], expected="statements, or "
                           "{'call', 'args', 'returns'} or {'stdin', 'stdout'}")
        keys = KEYS[0] if "call" in test else KEYS[1]
        strange = [str(k) for k in test if k not in keys]
        lacking = [k for k in keys if k not in test and k != "args"]
        if strange or lacking:
            raise BadInput(f"{self.name}: {self.tests}", expected=f"the keys {', '.join(keys)}",
                           received=f"{repr(strange[0]) if strange else f'none called {lacking[0]!r}'} in "
                                    f"{repr(dict(test))[:80]}")
        if "call" in test and isinstance(test.get("args", ()), str | bytes | Mapping):
            raise BadInput(f"{self.name}: {self.tests}", expected="'args' as a list", received=repr(test["args"])[:80])

    def _run(self, code: str, tests: Sequence[str] = (), calls: Sequence[tuple[str, list[Any]]] = (),
             stdin: str = "") -> Run:
        return run_python(code, tests, calls=calls, stdin=stdin, limits=self.limits, require=self.require,
                          packages=self.packages)


def code_of(text: str) -> str:
    r"""The code in a completion: its last fenced block, or all of it.

    Example:
        >>> code_of("So:\n```python\nx = 1\n```\nDone.")
        'x = 1'
    """
    blocks = _FENCE.findall(text)
    return blocks[-1] if blocks else text
