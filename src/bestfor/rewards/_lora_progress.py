"""A bar on standard error while a fit goes on, where that is a terminal: what is done, how fast, how much longer."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Rate(ProgressColumn):
    """Labels a second."""

    def render(self, task: Task) -> Text:
        """What the column shows."""
        return Text("" if task.speed is None else f"{task.speed:,.0f} labels/s")


class Shown:
    """A bar, or nothing where nobody looks.

    Args:
        console: where; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, what: str, labels: int, done: int = 0) -> None:
        """Another part of the work, of so many labels over all passes at most."""
        self._bar.reset(self._task, description=what, total=labels, completed=done)

    def more(self, labels: int) -> None:
        """Labels that were done since."""
        self._bar.advance(self._task, labels)
