"""How an answer has to be written: a declared format, or the one that a reward turns out to pay for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from plaudit.core.errors import BadInput

SLOTS = {"...": "any", "{exact}": "exact", "{integer}": "integer", "{number}": "number", "{letter}": "letter"}
"""What may stand for the answer in a declared format, and what it says of the answer's own form."""


@dataclass(frozen=True)
class Format:
    """A text with a place for the answer. What lies outside the declaration is no fault of a reward.

    The place is `...` (any form of the answer), `{exact}` (the form of the gold answer, letter by letter),
    `{integer}`, `{number}` or `{letter}`.

    Example:
        >>> tagged = Format.parse("<answer>...</answer>")
        >>> tagged.write("42"), tagged.slot
        ('<answer>42</answer>', 'any')
        >>> tagged.read("so <answer> 42 </answer>"), tagged.read("42")
        (' 42 ', None)
    """

    text: str
    before: str
    after: str
    slot: str = "any"
    declared: bool = True
    """Whether the user said so; else it was found out."""

    @staticmethod
    def parse(text: str, *, declared: bool = True) -> Format:
        """A format from its text.

        Raises:
            BadInput: when there is no place for the answer, or more than one.
        """
        found = [mark for mark in SLOTS for _ in range(text.count(mark))]
        if len(found) != 1:
            raise BadInput("format", expected=f"a text with one place for the answer, out of {', '.join(SLOTS)}",
                           received=text, fix='such as --format "<answer>...</answer>"')
        before, _, after = text.partition(found[0])
        return Format(text, before, after, SLOTS[found[0]], declared)

    def write(self, answer: str) -> str:
        """The answer in its place."""
        return f"{self.before}{answer}{self.after}"

    def read(self, completion: str) -> str | None:
        """What stands in the last such place of a completion; None where there is none."""
        found = self._pattern.findall(completion)
        return found[-1] if found else None

    def without_answer(self) -> list[str]:
        """Texts that have the form and no answer in it."""
        return [self.write(""), self.write(" "), self.write("?"), self.write("...")]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if not self.before and not self.after:
            return re.compile(r"\A(.*)\Z", re.DOTALL)
        end = re.escape(self.after) if self.after.strip() else r"(?:\n|\Z)"
        return re.compile(f"{re.escape(self.before)}(.*?){end}", re.DOTALL)


USUAL = (
    "...", "The answer is ....", "\\boxed{...}", "<answer>...</answer>", "#### ...", "Final answer: ...", "Answer: ...",
    "<think>\nLet me work it out.\n</think>\n<answer>...</answer>",
    "<think>Let me work it out.</think><answer>...</answer>",
    "<reasoning>\nLet me work it out.\n</reasoning>\n<answer>\n...\n</answer>\n",
    "<reasoning>Let me work it out.</reasoning><answer>...</answer>",
    "<think>\nLet me work it out.\n</think>\n<answer>\n...\n</answer>",
    "<think>\nLet me work it out.\n</think>\n\\boxed{...}", "**...**", "```\n...\n```", "```python\n...\n```",
    '{"answer": "..."}', "[[...]]",
)
"""Where none was declared, these are tried in turn; the first that is paid best for right answers is used."""


CODE = ("...", "```python\n...\n```", "```\n...\n```", "<answer>\n```python\n...\n```\n</answer>")
"""The same for programs."""


def usual(*, code: bool = False) -> list[Format]:
    """The formats that are tried where none was declared.

    Example:
        >>> [f.write("7") for f in usual()][:2]
        ['7', 'The answer is 7.']
    """
    return [_usual(text) for text in (CODE if code else USUAL)]


def _usual(text: str) -> Format:
    before, _, after = text.partition("...")
    return Format(text, before, after, "any", declared=False)
