"""The instruction check: its shares are those of `learn.text.contrast`, unknown is no loss, and its witness holds."""

from __future__ import annotations

import math

import pytest

from plaudit.auditing.text.audit import audit_text
from plaudit.auditing.text.items import Item, TextData
from plaudit.learn.text.contrast import Contrast, consistency

ITEMS = tuple(Item(prompt=f"Name thing {n} of kind a.", good=(f"a{n}",), bad=("nothing",), category="things",
                   contrasts=((f"Name thing {n} of kind b.", f"b{n}"),)) for n in range(20))
CONTRASTS = [Contrast(i.prompt, i.good[0], *i.contrasts[0]) for i in ITEMS]


def right(prompt):
    """What is right under a prompt."""
    _, _, n, _, _, kind = prompt.rstrip(".").split()
    return kind + n


def reads(prompts, completions):
    return [float(c == right(p)) for p, c in zip(prompts, completions, strict=True)]


def blind(prompts, completions):
    """Pays every `a`, whatever was asked: one direction of each contrast is right, the other is wrong."""
    return [float(c.startswith("a")) for c in completions]


def backwards(prompts, completions):
    """Right from the items' own side; seen from the other instruction each order is turned."""
    value = {("a", "a"): 1.0, ("b", "a"): 0.5, ("b", "b"): 0.0, ("a", "b"): 0.4}
    return [value.get((right(p)[0], c[0]), -1.0) for p, c in zip(prompts, completions, strict=True)]


def mute(prompts, completions):
    """The one that reads, but for odd things it knows nothing."""
    return [math.nan if int(right(p)[1:]) % 2 else v for p, v in zip(prompts, reads(prompts, completions), strict=True)]


def asked(reward):
    data = TextData(name="things", items=ITEMS, intent="pairs")
    report = audit_text(reward, data, only=["instruction"], mode="model")
    return report.context.memo["instruction"], list(report.findings)


@pytest.mark.parametrize(("reward", "shares"), [(reads, (1.0, 1.0)), (blind, (0.5, 0.5)), (backwards, (0.5, 0.5))])
def test_the_shares_are_those_of_both_directions(reward, shares):
    looked, findings = asked(reward)
    said = consistency(reward, CONTRASTS)
    assert (looked["C_res"].mean, looked["C_ins"].mean) == (said.c_res, said.c_ins) == shares
    assert bool(findings) == (reward is not reads)
    assert looked["C_res"].n == len(ITEMS)  # both directions of a prompt are one independent number


def test_pay_that_is_unknown_is_no_loss():
    looked, findings = asked(mute)
    assert (looked["contrasts"], looked["C_res"].mean, looked["C_ins"].mean) == (10, 1.0, 1.0)
    assert findings == []


def test_the_witness_shows_the_side_on_which_the_order_is_wrong():
    finding, = asked(backwards)[1]
    wrong, good = finding.witness.said
    assert wrong.paid > good.paid
