"""Answers by rule: what kind an answer is, the other forms that are right too, and mistakes that are surely wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

Kind = Literal["number", "letter", "truth", "text", "code"]
_NUMBER = re.compile(r"[-+]?(\d+(,\d{3})*|\d*)(\.\d+)?(/\d+)?")
_LATEX = re.compile(r"(-?)\\d?frac\{(-?\d+)\}\{(\d+)\}")
ANOTHERS = "the answer of another question"
TRUTHS = {"yes": "no", "no": "yes", "true": "false", "false": "true"}


@dataclass(frozen=True)
class Variant:
    """Another way to write an answer, with a word for what was changed."""

    how: str
    text: str


def kind_of(gold: str, *, prompt: str = "", code: bool = False) -> Kind:
    r"""What kind of answer this is.

    Example:
        >>> [kind_of(g) for g in ("42", "1/2", r"\frac{1}{2}", "B", "yes", "Paris", "1,234")]
        ['number', 'number', 'number', 'letter', 'truth', 'text', 'number']
    """
    if code:
        return "code"
    if value_of(gold) is not None:
        return "number"
    text = gold.strip()
    if re.fullmatch(r"\(?[A-J]\)?", text):
        return "letter"
    return "truth" if text.lower() in TRUTHS else "text"


def value_of(text: str) -> Fraction | None:
    r"""The number that a text is; None where it is none.

    Example:
        >>> value_of("0.5") == value_of("1/2") == value_of(r"\frac{1}{2}"), value_of("1,234"), value_of("x")
        (True, Fraction(1234, 1), None)
    """
    plain = text.strip().strip("$").replace("\N{MINUS SIGN}", "-").strip()
    latex = _LATEX.fullmatch(plain)
    if latex is not None:
        sign, above, below = latex.groups()
        return None if int(below) == 0 else Fraction(int(above), int(below)) * (-1 if sign else 1)
    if not _NUMBER.fullmatch(plain) or not any(c.isdigit() for c in plain):
        return None
    try:
        return Fraction(plain.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None


def forms(gold: str, kind: Kind, *, slot: str = "any") -> list[Variant]:
    r"""Other ways to write the same answer that a reader would accept; none where the format asks for one.

    Example:
        >>> [v.text for v in forms("0.5", "number")][:4]
        [' 0.5 ', '0.5.', '0.50', '+0.5']
        >>> [v.text for v in forms("B", "letter")]
        [' B ', 'b', '(B)', 'B.']
        >>> forms("42", "number", slot="exact")
        []
    """
    if slot == "exact" or kind == "code":
        return []
    blank = [Variant("blanks around it", f" {gold} ")]
    if kind == "number":
        out = _number_forms(gold)
        if slot in ("integer", "number"):
            out = [v for v in out if v.how in ("zeros behind the point", "a plus sign", "thousands separator")]
        return [v for v in _distinct([*blank, *out], gold) if slot != "integer" or "." not in v.text]
    if kind == "letter":
        bare = gold.strip("() \t")
        out = [Variant("lower case", gold.lower()), Variant("brackets", f"({bare})"),
               Variant("a full stop", f"{bare}.")]
        return _distinct([*blank, *(out if slot == "any" else [])], gold)
    other = [Variant("lower case", gold.lower()), Variant("capitals", gold.upper()), Variant("a full stop", f"{gold}.")]
    return _distinct([*blank, *other] if _is_plain(gold) else blank, gold)


def _is_plain(gold: str) -> bool:
    """Words, for which case and a full stop mean nothing."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z '-]*", gold.strip())) and len(gold) < 40


def _number_forms(gold: str) -> list[Variant]:
    value, plain = value_of(gold), gold.strip()
    assert value is not None
    out = [Variant("a full stop", f"{plain}."), Variant("LaTeX", f"${plain}$"), Variant("a unit", f"{plain} units")]
    whole = value.denominator == 1
    if "/" not in plain and "\\" not in plain:
        out.insert(1, Variant("zeros behind the point", f"{plain}.0" if whole and "." not in plain else f"{plain}0"))
        if value > 0 and not plain.startswith("+"):
            out.insert(2, Variant("a plus sign", f"+{plain}"))
    if whole and abs(value) >= 1000:
        out.append(Variant("thousands separator", f"{int(value):,}" if "," not in plain else plain.replace(",", "")))
    if not whole:
        above, below = value.numerator, value.denominator
        if below <= 1000:
            out += [Variant("a fraction", f"{above}/{below}"), Variant("a LaTeX fraction", _latex(above, below))]
        if _terminates(below):
            out.append(Variant("a decimal", _decimal(value)))
    return out


def _latex(above: int, below: int) -> str:
    return f"{'-' if above < 0 else ''}\\frac{{{abs(above)}}}{{{below}}}"


def _terminates(below: int) -> bool:
    for p in (2, 5):
        while below % p == 0:
            below //= p
    return below == 1


def _decimal(value: Fraction) -> str:
    """The exact decimal of a fraction that has one."""
    digits = next(d for d in range(1, 400) if (value * 10**d).denominator == 1)
    whole = abs(int(value * 10**digits))
    text = str(whole).rjust(digits + 1, "0")
    return f"{'-' if value < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def mistakes(gold: str, kind: Kind, *, others: Sequence[str] = (), rng: np.random.Generator | None = None
             ) -> list[Variant]:
    """Answers that are surely wrong, each with the mistake that leads to it.

    Args:
        gold: the right answer.
        kind: of `kind_of`.
        others: right answers of other questions, which are wrong here.
        rng: draws among them.

    Example:
        >>> {v.how: v.text for v in mistakes("42", "number")}["digits swapped"]
        '24'
        >>> [v.text for v in mistakes("yes", "truth")][:1]
        ['no']
        >>> "42" in [v.text for v in mistakes("42", "number", others=["42.0", "17"])]
        False
    """
    rng = rng or np.random.default_rng(0)
    apart = [o for o in others if not same(o, gold)]
    drawn = [Variant(ANOTHERS, apart[int(rng.integers(len(apart)))])] if apart else []
    if kind == "number":
        out = _number_mistakes(gold)
    elif kind == "letter":
        bare = gold.strip("() \t")
        out = [Variant(f"another letter, {c}", gold.replace(bare, c)) for c in "ABCD" if c != bare]
    elif kind == "truth":
        out = [Variant("the opposite", TRUTHS[gold.strip().lower()])]
    elif kind == "code":
        return []
    else:
        out = [Variant("a denial", f"not {gold}"), Variant("half of it", gold[: max(1, len(gold) // 2)]),
               Variant("it with more behind", f"{gold}xyz"), Variant("backwards", gold[::-1]),
               Variant("nonsense", "qwerty")]
    return [v for v in _distinct([*drawn, *out], gold) if not same(v.text, gold)]


def _number_mistakes(gold: str) -> list[Variant]:
    value, plain = value_of(gold), gold.strip()
    assert value is not None
    whole = value.denominator == 1
    step = Fraction(1) if whole and abs(value) < 20 else max(abs(value) / 4, Fraction(1, 4))
    step = Fraction(round(step)) if whole else step
    digits = re.sub(r"\D", "", plain)
    out = [Variant("off by a little", _like(value + step, plain)), Variant("the other sign", _like(-value, plain)),
           Variant("ten times", _like(value * 10, plain)), Variant("digits put behind", _appended(plain, "7")),
           Variant("a digit put before", _prepended(plain, "3")), Variant("zero", "0"),
           Variant("far too large", _like(value * 1000 + 7, plain))]
    if whole and abs(value) >= 20:
        out.insert(1, Variant("off by one", _like(value + 1, plain)))
    if whole and len(digits) > 1:
        swapped = digits[::-1] if len(digits) == 2 else digits[1] + digits[0] + digits[2:]
        out += [Variant("digits swapped", ("-" if value < 0 else "") + swapped), Variant("a digit lost", plain[:-1])]
    return out


def _appended(plain: str, digit: str) -> str:
    return f"{plain}{digit}" if plain[-1:].isdigit() else f"{plain} {digit}"


def _prepended(plain: str, digit: str) -> str:
    return f"{plain[0]}{digit}{plain[1:]}" if plain[:1] in "+-" else f"{digit}{plain}"


def _like(value: Fraction, plain: str) -> str:
    """A number written as another one is."""
    if value.denominator == 1 and "." not in plain:
        return str(int(value))
    if "/" in plain or "\\" in plain or not _terminates(value.denominator):
        above, below = value.numerator, value.denominator
        return _latex(above, below) if "\\" in plain else f"{above}/{below}"
    return _decimal(value) if value.denominator != 1 else f"{int(value)}.0"


def same(a: str, b: str) -> bool:
    """Whether two answers mean the same, as far as rules can tell.

    Example:
        >>> same("0.5", "1/2"), same(" Paris.", "paris"), same("41", "42")
        (True, True, False)
    """
    x, y = value_of(a), value_of(b)
    if x is not None and y is not None:
        return x == y
    return a.strip(" .()$").lower() == b.strip(" .()$").lower()


def _distinct(variants: Sequence[Variant], gold: str) -> list[Variant]:
    seen, out = {gold}, list[Variant]()
    for v in variants:
        if v.text not in seen:
            seen.add(v.text)
            out.append(v)
    return out
