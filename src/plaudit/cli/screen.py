"""What an audit looks like on a terminal: a line for each check while it runs, then the verdict."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from plaudit.auditing.asking import Event
from plaudit.auditing.report.model import AuditReport, witness_file

COLOUR = {"high": "red", "medium": "yellow", "low": "bright_black", "pass": "green", "skipped": "bright_black",
          "finding": "red"}
SIGN = {"pass": "✓", "finding": "✗", "skipped": "–"}


class Screen:
    """Listens to an audit and draws it; plain lines where the output is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.fields[sign]}", table_column=Column(width=1, no_wrap=True)),
            TextColumn("{task.fields[name]}", table_column=Column(width=13, no_wrap=True)),
            BarColumn(bar_width=12, table_column=Column(width=12, no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            TimeElapsedColumn(table_column=Column(width=7, no_wrap=True)), console=self.console, expand=True)
        self.tasks: dict[str, TaskID] = {}
        self._spoken: set[str] = set()

    def __enter__(self) -> Screen:
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.live:
            self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Draws one event."""
        if event.kind == "recognised":
            self.console.print(escape(event.text), soft_wrap=True)
            for name in event.checks if self.live else ():
                self._line(name, "[bright_black]·[/]", "[bright_black]waits[/]")
        elif event.kind == "note":
            self.console.print(f"[bright_black]{escape(event.text)}[/]", soft_wrap=True)
        elif event.kind == "started":
            self._line(event.check, "…", escape(event.text))
        elif event.kind == "progress":
            self._line(event.check, "…", f"[bright_black]{escape(event.text)}[/]", done=event.done)
        elif event.kind == "checked" and event.result is not None:
            status = event.result.status
            worst = event.findings[0].severity if event.findings else status
            note = f"[{COLOUR[worst]}]{escape(event.result.why)}[/]"
            self._line(event.check, f"[{COLOUR[worst]}]{SIGN[status]}[/]", note, done=1.0, final=event.result.seconds)
        elif event.kind == "repaired":
            self._line("repair", "[green]✓[/]", escape(event.text), done=1.0, final=0.0)

    def _line(self, name: str, sign: str, note: str, *, done: float = 0.0, final: float | None = None) -> None:
        if not self.live:
            if final is not None:
                self.console.print(f"{sign} {name:<13} {note} ({final:.1f} s)", soft_wrap=True)
            elif name not in self._spoken:
                self.console.print(f"{sign} {name:<13} {note}", soft_wrap=True)
                self._spoken.add(name)
            return
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task("", total=1.0, start=False, sign=sign, name=name, note=note)
        if "waits" not in note:
            self.progress.start_task(self.tasks[name])
        self.progress.update(self.tasks[name], completed=done, sign=sign, note=note)
        if final is not None:
            self.progress.stop_task(self.tasks[name])

    def verdict(self, report: AuditReport, folder: Path) -> None:
        """The sentence, the findings, where the report lies and how to replay it."""
        self.findings(report)
        self.where(report, folder)

    def findings(self, report: AuditReport) -> None:
        """The sentence and the findings."""
        safe = report.verdict.safe
        colour = {True: "green", False: "red", None: "yellow"}[safe]
        self.console.print()
        self.console.print(Panel(f"[bold]{escape(report.verdict.sentence)}[/]", border_style=colour, padding=(0, 1)))
        self.console.print(Padding(f"[bright_black]{escape(report.verdict.effort['detection'])}[/]", (0, 0, 0, 2)))
        for f in report.findings:
            known = f" [bright_black](accepted: {escape(f.accepted.reason)})[/]" if f.accepted else ""
            colour = "bright_black" if f.accepted else COLOUR[f.severity]
            self.console.print(Padding(f"[{colour}]{f.severity:<6}[/] [bold]{f.check}[/]: {escape(f.title)}{known}",
                                       (0, 0, 0, 2)))
            if f.fix is not None:
                self.console.print(Padding(f"[green]repair, audited again:[/] {escape(f.fix.description)}", (0, 0, 0,
                                                                                                             9)))

    def where(self, report: AuditReport, folder: Path) -> None:
        """Where the report lies and how to replay it."""
        self.console.print(f"\nreport   {folder / 'report.html'}", soft_wrap=True)
        first = next((i for i, f in enumerate(report.findings, 1) if f.witness is not None), None)
        if first is not None:
            film = "" if hasattr(report.findings[first - 1].witness, "said") else " --gif exploit.gif"
            self.console.print(f"replay   plaudit replay {folder / witness_file(first)}{film}", soft_wrap=True)
