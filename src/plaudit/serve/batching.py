"""Dynamic batching: requests that arrive together are scored together, one batch at a time.

While a batch is scored, requests pile up; the next batch takes them all, up to its token budget. A request that
comes to an idle service waits a few milliseconds for company. A request whose scoring fails is tried alone, so that
it fails alone; one whose client has gone before its turn is dropped.

A batch that takes longer than a request may wait is stuck: that is logged, and the batcher says so (`stuck_s`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from plaudit.core.errors import RAISED, BadInput, PlauditError
from plaudit.learn.text.scored import Scored
from plaudit.learn.text.scorers import Scorer, reads_of, score_rows
from plaudit.serve.limits import Limits, Refused
from plaudit.serve.metrics import Metrics
from plaudit.serve.wire import Ask
from plaudit.specify.text.columns import said_of

log = logging.getLogger(__name__)
Outcome = list[Scored] | BaseException
FAILED = (*RAISED, asyncio.CancelledError)
"""What scoring may raise; a stray CancelledError would end the queue without a word."""


@dataclass(eq=False)
class Job:
    """An accepted request that waits for its scores."""

    ask: Ask
    done: asyncio.Future[list[Scored]]
    since: float = field(default_factory=perf_counter)
    gone: bool = False
    """Its client has left."""


class Batcher:
    """The queue of one model.

    Args:
        name: The model's name, for the metrics.
        scorer: Scores the rows.
        limits: The budget and the longest wait.
        executor: The thread that scores.
        metrics: Counts.
    """

    def __init__(self, name: str, scorer: Scorer, *, limits: Limits, executor: Executor, metrics: Metrics) -> None:
        self.name, self.scorer, self.limits, self.executor, self.metrics = name, scorer, limits, executor, metrics
        self.reads = reads_of(scorer)
        self.waiting: deque[Job] = deque()
        self.texts = 0
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._tokens = 0
        self._began: float | None = None

    @property
    def stuck_s(self) -> float:
        """How long the batch that is being scored has taken, where that is longer than a request may wait; else 0."""
        began = self._began
        lasted = 0.0 if began is None else perf_counter() - began
        return lasted if lasted > self.limits.answer_s else 0.0

    def submit(self, ask: Ask) -> Job:
        """Accepts a request; its scores come as the job's future.

        Raises:
            Refused: 503 while the queue is full.
        """
        if self.texts and self.texts + len(ask.completions) > self.limits.queue_texts:
            raise Refused(503, "busy", f"{self.texts} completions are waiting; come back in a second", retry_after_s=1)
        job = Job(ask, asyncio.get_running_loop().create_future())
        self.waiting.append(job)
        self.texts += len(ask.completions)
        self._tokens += ask.tokens
        self.metrics.queue(self.name, self.texts)
        self._some.set()
        if self._tokens >= self.limits.batch_tokens:
            self._full.set()
        return job

    def give_up(self, job: Job) -> None:
        """Nobody waits for a job any more: it is forgotten, unless it is being scored."""
        job.gone = True
        job.done.cancel()
        if job in self.waiting:
            self.waiting.remove(job)
            self._left(job)

    async def run(self) -> None:
        """Scores batch after batch until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            await self._company()
            jobs = self._take()
            if not jobs:
                continue
            start = perf_counter()
            complaint = loop.call_later(self.limits.answer_s, self._complain, jobs)
            try:
                outcomes = await loop.run_in_executor(self.executor, self._score, jobs)
            finally:
                complaint.cancel()
            self.metrics.batch(self.name, texts=sum(len(j.ask.completions) for j in jobs),
                               seconds=perf_counter() - start)
            for job, outcome in zip(jobs, outcomes, strict=True):
                _deliver(job, outcome)

    async def _company(self) -> None:
        """Waits for others, but no longer than the first may wait, and not once there is a full batch."""
        left = self.limits.wait_ms / 1000 - (perf_counter() - self.waiting[0].since) if self.waiting else 0.0
        if left > 0 and not self._full.is_set():
            try:
                await asyncio.wait_for(self._full.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        tokens = 0
        while self.waiting and (not jobs or tokens + self.waiting[0].ask.tokens <= self.limits.batch_tokens):
            job = self.waiting.popleft()
            self._left(job)
            tokens += job.ask.tokens
            jobs.append(job)
        if not self.waiting:
            self._some.clear()
        return jobs

    def _left(self, job: Job) -> None:
        """A job waits no more."""
        self.texts -= len(job.ask.completions)
        self._tokens -= job.ask.tokens
        if self._tokens < self.limits.batch_tokens:
            self._full.clear()
        self.metrics.queue(self.name, self.texts)

    def _complain(self, jobs: Sequence[Job]) -> None:
        log.critical("the model %s has been scoring %d completions for %g s; its requests are answered with 504 until "
                     "it ends", self.name, sum(len(j.ask.completions) for j in jobs), self.limits.answer_s)

    def _score(self, jobs: Sequence[Job]) -> list[Outcome]:
        """In the scoring thread: `_outcomes`, timed."""
        self._began = perf_counter()
        try:
            return self._outcomes(jobs)
        finally:
            self._began = None

    def _outcomes(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All jobs of a kind at once; each alone where that fails. What was given up before its turn is left out."""
        outcomes: dict[int, Outcome] = {}
        kinds: dict[tuple[Any, ...], list[Job]] = {}
        for job in [job for job in jobs if not job.gone]:
            kinds.setdefault((job.ask.per_token, job.ask.raw, *sorted(self._told(job))), []).append(job)
        for group in kinds.values():
            try:
                outcomes |= {id(job): rows for job, rows in zip(group, self._rows(group), strict=True)}
            except FAILED:  # the border: one request's text must not fail its neighbours
                for job in [job for job in group if not job.gone]:
                    try:
                        outcomes[id(job)] = self._rows([job])[0]
                    except FAILED as error:
                        outcomes[id(job)] = error
        return [outcomes.get(id(job), []) for job in jobs]

    def _told(self, job: Job) -> Mapping[str, Any]:
        """The columns of a request that the scorer reads."""
        return said_of(job.ask.columns, self.reads)

    def _rows(self, jobs: Sequence[Job]) -> list[list[Scored]]:
        prompts = [p for job in jobs for p in job.ask.prompts]
        completions = [c for job in jobs for c in job.ask.completions]
        told = [self._told(job) for job in jobs]
        columns = {name: [value for one in told for value in one[name]] for name in told[0]}
        rows = score_rows(self.scorer, prompts, completions, columns=columns, per_token=jobs[0].ask.per_token,
                          raw=jobs[0].ask.raw)
        if len(rows) != len(completions):
            raise PlauditError(f"{self.name} gave {len(rows)} scores for {len(completions)} completions")
        rows = [_finite(row) for row in rows]
        out: list[list[Scored]] = []
        for job in jobs:
            out.append(rows[:len(job.ask.completions)])
            rows = rows[len(job.ask.completions):]
        return out


def _finite(row: Scored) -> Scored:
    if row.value is None or math.isfinite(row.value):
        return row
    return Scored(value=None, length=row.length, cut=row.cut, why=f"the model gave {row.value}")


def _deliver(job: Job, outcome: Outcome) -> None:
    if job.done.done():
        return
    if not isinstance(outcome, BaseException):
        job.done.set_result(outcome)
    elif isinstance(outcome, BadInput):
        job.done.set_exception(Refused.bad_input(outcome))
    else:
        reason = " ".join(f"{type(outcome).__name__}: {outcome}".split())[:300]
        job.done.set_exception(Refused(500, "scoring_failed", f"the model failed on this request: {reason}"))
