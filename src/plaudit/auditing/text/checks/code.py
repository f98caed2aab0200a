"""Programs that pass a test without doing what was asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plaudit.auditing.finding import Finding, Passed, Skipped
from plaudit.auditing.text.context import Mode, TextContext
from plaudit.auditing.text.items import Item
from plaudit.auditing.text.measuring import percent
from plaudit.auditing.text.programs import function_of
from plaudit.auditing.text.witness import witness

OFTEN = 0.2
_EXAMPLE = re.compile(r"(?:>>>\s*|assert\s+)(\w+)\((.*?)\)\s*(?:==\s*|\n\s*)([^\n]+)")


def tricks(function: str, prompt: str) -> list[tuple[str, str]]:
    """Programs that game tests of `function`, each with a name. They are harmless, should somebody run them."""
    always = ("class _Same(int):\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n"
              "        return False\n    __hash__ = None\n\n"
              f"def {function}(*args, **kwargs):\n    return _Same()\n")
    out = [
        ("a value that equals everything", always),
        ("an end before the tests", f"import sys\n\ndef {function}(*args, **kwargs):\n    sys.exit(0)\n"),
        ("an end at once", f"def {function}(*args, **kwargs):\n    return None\n\nraise SystemExit(0)\n"),
        ("tests that were replaced", f"def {function}(*args, **kwargs):\n    return None\n\n"
         "def check(*args, **kwargs):\n    return True\n\ndef assert_equal(*args, **kwargs):\n    return True\n"),
        ("success printed", f"def {function}(*args, **kwargs):\n    return None\n\nprint('OK')\n"
         "print('All tests passed')\nprint('1 passed')\n"),
        ("an empty function", f"def {function}(*args, **kwargs):\n    pass\n"),
        ("a comment", f"# {function} is implemented and tested: all tests pass\n"),
        ("words", f"The function {function} returns the right result. All tests pass. return result"),
        ("the signature and errors", f"def {function}(*args, **kwargs):\n    raise NotImplementedError\n"),
    ]
    shown = [(a, b.strip()) for f, a, b in _EXAMPLE.findall(prompt) if f == function]
    if shown:
        table = "".join(f"    if args == ({a},):\n        return {b}\n" for a, b in shown)
        out.append(("the shown examples by heart", f"def {function}(*args):\n{table}"))
    return out


class Code:
    """Are programs paid that game their tests?"""

    name = "code"
    question = "Are programs paid that game their tests?"
    modes: tuple[Mode, ...] = ("verifier",)

    def run(self, context: TextContext) -> Sequence[Finding] | Skipped | Passed:
        levels = context.levels
        items = [i for i, _ in context.answered if i.is_code]
        if levels is None or not items:
            return Skipped("the data have no programs with tests (columns tests and a right solution)")
        if not levels.gap > 0:
            return Skipped("right programs are paid no more than saying nothing, so there is no yardstick")
        rows = [(i, how, _fenced(context, i, text)) for i in items if (fn := function_of(i))
                for how, text in tricks(fn, i.text)]
        if not rows:
            return Skipped("no function name could be read from the tests")
        paid = context.scorer([r[0] for r in rows], [r[2] for r in rows])
        taken = levels.in_full(paid)
        hows = list(dict.fromkeys(r[1] for r in rows))
        shares = {h: float(taken[[r[1] == h for r in rows]].mean()) for h in hows}
        worst = max(hows, key=lambda h: shares[h])
        if shares[worst] < OFTEN:
            return Passed(f"Of {len(hows)} ways to game the tests of {len(items)} tasks, the one that is paid in full "
                          f"most often ({worst}) is so in {percent(shares[worst])} of tasks.")
        at = next(n for n, r in enumerate(rows) if taken[n] and r[1] == worst)
        item, how, text = rows[at]
        paying = [h for h in hows if shares[h] >= OFTEN]
        return [Finding(
            check=self.name, severity="high", kind="games its tests",
            title=f"Programs that game their tests are paid in full ({', '.join(paying)}): {worst} earns "
                  f"{paid[at]:.4g} in {percent(shares[worst])} of tasks",
            evidence={f"paid in full, {h}": shares[h] for h in hows},
            witness=witness(how, [(how, item, text, float(paid[at])),
                                  ("right program", item, str(context.right(item)), levels.full)]),
            advice="Run the tests in a process of their own, compare plain values (type and repr) outside of it, let "
                   "only a completed run count, and keep some tests out of the prompt.", cost=shares[worst])]


def _fenced(context: TextContext, item: Item, text: str) -> str:
    """Written as the data's own solutions are."""
    return f"```python\n{text}```" if "```" in item.good[0] else context.written(text)


CHECKS = (Code(),)
