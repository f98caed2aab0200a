"""`audit_text`: points every check of text at a reward and says in one sentence whether it is safe to optimise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.auditing.asking import Asking, Event, Listener, with_source
from plaudit.auditing.finding import Finding
from plaudit.auditing.report.model import AuditReport, versions
from plaudit.auditing.text.checks import TextCheck, checks
from plaudit.auditing.text.checks.exploit import BUDGET
from plaudit.auditing.text.context import SAYS_NOTHING, USUAL_ITEMS, Mode, TextContext
from plaudit.auditing.text.edits import filler
from plaudit.auditing.text.formats import Format
from plaudit.auditing.text.items import Item, TextData
from plaudit.auditing.text.judging import judge
from plaudit.auditing.text.measuring import quoted
from plaudit.auditing.text.quoting import shipped
from plaudit.auditing.text.scoring import Hangs, Numbers, Scorer, batch_of
from plaudit.auditing.text.subject import TextSubject, check_columns, recognise
from plaudit.auditing.text.suites import make_suite
from plaudit.auditing.text.witness import TextWitness
from plaudit.core.devices import check_device
from plaudit.core.errors import BadInput
from plaudit.core.needs import Reads
from plaudit.core.reward import Reward
from plaudit.specify.text.columns import said_of

FEWEST_ITEMS, TOGETHER_S = 8, 5.0
TEXTS_OF_AN_ITEM: Mapping[str, int] = {"verifier": 150, "model": 110}
"""About how many texts the checks score for each prompt, the search aside."""
PATIENCE_S = 150.0
"""About how long an audit may take where scoring is slow; the first seconds and the report come on top."""
Rows = TextData | str | Path | Iterable[Mapping[str, Any]]


def audit_text(reward: str | Path | TextSubject | Reward | Callable[..., Any], rows: Rows | None = None, *,
               format: str | Format | None = None, suite: str | None = None, generator: Any = None,
               intent: str | Reward | Callable[..., Any] | None = None, effort: float = 1.0, seed: int = 0,
               only: Sequence[str] | None = None, mode: Mode | None = None, time_limit_s: float | None = 10.0,
               patience_s: float = PATIENCE_S, trust: bool = False, device: str = "cpu",
               listen: Listener | None = None) -> AuditReport:
    """Audits a text reward by edits, by suites and by search.

    Args:
        reward: `file.py:name` or `module:name` of a function or Reward, the folder of a reward model, a URL of a
            server, or such an object itself.
        rows: A file (JSONL, JSON, Parquet) or rows with a prompt and what is known of it: a right answer, or a chosen
            and a rejected completion. Without rows and suite: a suite that fits.
        format: How an answer is written, such as `<answer>...</answer>`; what lies outside is no fault.
        suite: The name of a generator of prompts, instead of rows or beside them.
        generator: A folder of a language model, or a function (prompt, n, seed) -> texts, that writes completions for
            the over-optimisation curve.
        intent: `column:NAME` of the right answers, or a reward (`file.py:name`) that says how good a text really is.
        effort: How hard to look, in multiples of the default number of prompts and of texts of the search.
        seed: The root of all randomness.
        only: Names of the checks to run; all that fit by default.
        mode: `verifier` (pay is compared with that of a right answer) or `model` (texts are compared with each other);
            recognised by default.
        time_limit_s: Wall-clock limit of one call of a plain function.
        patience_s: Where scoring is so slow that this effort would take longer, fewer prompts are looked at.
        trust: Whether a saved reward may run code that has changed or lies elsewhere.
        device: Where models that are loaded from files compute (the reward, the intent, the generator), such as cpu
            or cuda; an object in hand computes where it is.
        listen: Called with every `Event`.

    Returns:
        An `AuditReport`, as `plaudit.audit` returns.

    Raises:
        BadInput: when an argument is wrong; before any work starts.

    Example:
        >>> def exact(completion_text, answer):
        ...     return float(completion_text == f"<answer>{answer}</answer>")
        >>> report = audit_text(exact, suite="sums", format="<answer>{exact}</answer>", only=["wrong", "forms"])
        >>> [c.status for c in report.checks]
        ['pass', 'pass']
    """
    began, tell = time.perf_counter(), listen or (lambda event: None)
    if not 0 < effort < math.inf:
        raise BadInput("effort", expected="a positive number", received=effort)
    wanted = _chosen(only)
    form = Format.parse(format) if isinstance(format, str) else format
    device = check_device(device)
    column, gold = _read_intent(intent, device)
    subject = reward if isinstance(reward, TextSubject) else recognise(reward, time_limit_s=time_limit_s, trust=trust,
                                                                       device=device)
    data = _asked(_data(rows, suite, column, subject, seed), subject.reward.reads)
    check_columns(subject, data)
    if mode is None:
        mode = "model" if subject.mode == "model" or (data.has_pairs and not data.has_gold and not any(
            i.is_code for i in data.items)) else "verifier"
    subject = replace(subject, mode=mode, task_spec={"data": data.name, "suite": data.suite})
    context = TextContext(data=data, scorer=Scorer(subject.reward, patience_s=patience_s), mode=mode, declared=form,
                          effort=effort, seed=seed, time_limit_s=time_limit_s, generator=_generator(generator, device),
                          gold=gold, literals=subject.literals, patience_s=patience_s, chosen=only is not None)
    fitting = [c for c in wanted if mode in c.modes]
    tell(Event(kind="recognised", text=_recognised(subject, context), checks=[c.name for c in fitting]))
    unused = ["the generator is not used: the curve of over-optimisation is asked of reward models"] if \
        generator is not None and mode == "verifier" else []
    for note in (*data.notes, *unused, *_pace(context)):
        tell(Event(kind="note", text=note))
    run = Runner(context, subject, tell, began, fitting, {"only": None if only is None else [c.name for c in wanted],
                                                        "time_limit_s": time_limit_s, "discount": None})
    interrupted = run.all()
    if form is None and mode == "verifier" and data.has_gold and "format" in context.__dict__:
        how = "as they stand" if context.format.text == "..." else f"as {quoted(context.format.text, 120)}"
        tell(Event(kind="note", text=f"no format was declared (--format); right answers were written {how}, which is "
                                     "paid best"))
    tell(Event(kind="judging"))
    return run.report(interrupted=interrupted)


class Runner(Asking):
    """The checks of one audit, in order, with what they found."""

    def __init__(self, context: TextContext, subject: TextSubject, tell: Listener, began: float,
                 wanted: Sequence[TextCheck], config: Mapping[str, Any]) -> None:
        super().__init__(context, tell)
        self.context, self.subject, self.began = context, subject, began
        self.wanted, self.config = wanted, config

    def all(self) -> bool:
        """Runs the checks; returns whether it was interrupted."""
        try:
            for check in self.wanted:
                self.ask(check)
        except KeyboardInterrupt:
            return True
        return False

    def begin(self, name: str, question: str) -> None:
        """Also lets the scorer tell how much it has scored."""
        super().begin(name, question)
        self.context.scorer.tick = lambda spent: self.tell(Event(kind="progress", check=name,
                                                                 text=f"{spent:,} texts scored"))

    def sourced(self, finding: Finding) -> Finding:
        """Writes into a finding what its check is worth, and into its witness where the reward comes from."""
        return with_source(finding, rates=shipped().of_check(finding.check, effort=self.context.effort),
                           witness=TextWitness, subject=self.subject)

    def report(self, *, interrupted: bool) -> AuditReport:
        """What is known now; checks that have not finished are skipped."""
        findings, results = self.known(self.wanted)
        context, subject, data = self.context, self.subject, self.context.data
        verdict = judge(context, findings, results, interrupted=interrupted)
        config = {**self.config, "recognised": subject.recognised, "mode": context.mode, "intent": data.intent,
                  "budget": {"texts": context.scorer.spent}, "task": dict(subject.task_spec),
                  "format": context.format.text if "format" in context.__dict__ else None,
                  "levels": None if context.__dict__.get("levels") is None else vars(context.levels),
                  "power": context.memo.get("power"), "prompts": len(context.items)}
        thing: Any = context
        who: Any = subject
        return AuditReport(
            target=subject.name, env=data.name, intent=data.intent, verdict=verdict, findings=findings, checks=results,
            seconds=time.perf_counter() - self.began, seed=context.seed, interrupted=interrupted, config=config,
            versions=versions(), context=thing, subject=who)


def _chosen(only: Sequence[str] | None) -> list[TextCheck]:
    known = {c.name: c for c in checks()}
    if only is None:
        off = shipped().off()
        return [c for n, c in known.items() if n not in off]
    strange = [n for n in only if n not in known]
    if strange:
        raise BadInput("only", expected=f"names out of {', '.join(known)}", received=", ".join(strange))
    return [c for n, c in known.items() if n in only]


def _read_intent(intent: Any, device: str) -> tuple[str | None, Callable[[Sequence[Item], Sequence[str]],
                                                                         Numbers] | None]:
    """The column of right answers, or a reward that says how good a text is."""
    if intent is None:
        return None, None
    if isinstance(intent, str) and intent.startswith("column:"):
        return intent.removeprefix("column:"), None
    judge_of = recognise(intent, device=device).reward

    def gold(items: Sequence[Item], texts: Sequence[str]) -> Numbers:
        return judge_of.score(batch_of(items, texts)).returns()[0].double().numpy()

    return None, gold


def _data(rows: Rows | None, suite: str | None, column: str | None, subject: TextSubject, seed: int) -> TextData:
    if rows is None and suite is None:
        name = "sums" if subject.mode == "verifier" else "mixed"
        data = make_suite(name, seed=seed)
        return replace(data, notes=(*data.notes, f"no data were given: the suite {name} is used (--data, --suite)"))
    if rows is None:
        return make_suite(str(suite), seed=seed)
    if isinstance(rows, TextData):
        data = rows
    elif isinstance(rows, str | Path):
        data = TextData.load(rows, gold=column)
    else:
        data = TextData.of_rows(rows, gold=column)
    if suite is None:
        return data
    more = make_suite(suite, seed=seed)
    return replace(data, name=f"{data.name} and suite:{suite}", items=(*data.items, *more.items), suite=suite,
                   intent=data.intent or more.intent)


def _asked(data: TextData, reads: Reads) -> TextData:
    """The data with their columns also under the names that a reward of another trainer asks for."""
    return replace(data, items=tuple(replace(i, columns={**i.columns, **said_of(i.columns, reads)})
                                     for i in data.items))


def _generator(generator: Any, device: str) -> Any:
    if generator is None or (callable(generator) and not isinstance(generator, str | Path)):
        return generator
    from plaudit.auditing.text.sampling import sampler

    return sampler(generator, device=device)


def _pace(context: TextContext) -> list[str]:
    """Measures what a text costs; where all of them would take longer than the patience, fewer are looked at.

    The measured text has about the length of those that the checks score on average. All checks run, on fewer prompts
    and with a shorter search; what they could still have seen stands in the report (`power`).
    """
    items = list(context.data.items[:4])
    try:
        for item in items:  # the first call loads what is loaded once; one that hangs is soon known to
            context.scorer.afresh([item], [SAYS_NOTHING[0]])
        began = time.perf_counter()
        context.scorer.afresh(items, [f"{SAYS_NOTHING[2]} {filler(6)}"] * len(items))
    except Hangs as hangs:
        return [str(hangs)]
    each = (time.perf_counter() - began) / len(items)
    planned = min(len(context.data.items), max(4, round(USUAL_ITEMS[context.mode] * context.effort)))
    texts = planned * TEXTS_OF_AN_ITEM[context.mode] + BUDGET[context.mode] * context.effort
    share = context.patience_s / max(each * texts, 1e-9)
    if share >= 1:
        return []
    fewer = context.memo["most items"] = max(min(planned, FEWEST_ITEMS), int(share * planned))
    context.scorer.batch = int(np.clip(TOGETHER_S / each, 8, context.scorer.batch))  # progress is told after each
    context.memo["share of search"] = float(np.clip(share, 0.05, 1.0))
    return [f"a text takes {1e3 * each:.3g} ms to score, all {texts:,.0f} would take {each * texts / 60:.0f} min: "
            f"{f'{fewer} prompts are looked at instead of {planned}, and ' if fewer < planned else ''}the search is "
            f"{1 / context.memo['share of search']:.3g} times shorter. The record's rates are those of the whole; "
            "--budget SECONDS gives it more time"]


def _recognised(subject: TextSubject, context: TextContext) -> str:
    data = context.data
    what = {None: "no intent yet (name the column of right answers with --intent column:NAME)",
            "pairs": "intent: the preferred completion of each pair", "suite": "intent: what the suite knows"}
    intent = what.get(data.intent, f"intent: the right answer ({data.intent})")
    return (f"{subject.recognised} on {data.name} ({len(data.items):,} prompts), audited as a "
            f"{'reward model' if context.mode == 'model' else 'verifier'}; {intent}")
