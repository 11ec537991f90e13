"""Show how far long work is: a bar on a terminal, lines in a log, nothing where nobody asked.

On a terminal all bars that are open share one display on standard error, a row each, so that work within work does not
draw over what is there; a bar goes when its work is done. Where standard error is no terminal, a line every
:data:`EVERY` seconds says what is done, the rate and the remaining time; work shorter than that leaves no line.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 30.0
"""Seconds between two lines of a log."""

_lock = threading.RLock()
_displays: dict[int, Any] = {}
"""The display with an open bar, by the identity of its stream."""


class Progress:
    """Context manager that shows how far some work is, between its beginning and its end.

    Args:
        what: names what is counted, in a few words.
        total: how many there are.
        done: how many of them were done before; they do not count for the rate.
        show: True draws a bar at once, False writes nothing on its own; None draws a bar where the stream is a terminal
            and writes lines elsewhere, neither of them in a worker process.
        after: seconds of work before a bar is drawn that was not asked for by ``show=True``.
        tell: called with the lines, whatever ``show`` is, where no bar is drawn; by default they go to the stream.
        stream: where it is shown; standard error by default.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        *,
        show: bool | None = None,
        after: float = 0.0,
        tell: Callable[[str], None] | None = None,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._done = what, total, done
        self._show, self._after, self._tell = show, 0.0 if show else after, tell
        self._wanted, self._clock = stream, clock
        self._stream: IO[str] | None = None
        self._bar = self._lines = False
        self._display: Any = None
        self._row: Any = None
        self._restart()

    @classmethod
    def on(cls, console: Console | None, what: str, total: int, done: int = 0) -> Self:
        """Show progress on a rich console; None shows nothing."""
        if console is None:
            return cls(what, total, done, show=False)
        return cls(what, total, done, show=console.is_terminal or None, stream=console.file)

    def __enter__(self) -> Self:
        self._stream = self._wanted or _standard_error()
        by_itself = self._show is None and self._stream is not None and multiprocessing.parent_process() is None
        self._bar = self._stream is not None and (bool(self._show) or (by_itself and _is_terminal(self._stream)))
        self._lines = not self._bar and (by_itself or self._tell is not None)
        self._restart()
        self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        with _lock:
            if self._display is not None:
                _leave(self._stream, self._row)
        self._display, self._bar, self._lines = None, False, False

    def advance(self, count: int = 1) -> None:
        """Count what was done since; outside of the context, nothing is shown."""
        with _lock:
            self._done += count
            self._draw()
            now = self._clock()
            if self._lines and self._done < self._total and now - self._said >= EVERY:
                self._said = now
                self._write(f"{self._what}: {self._done} of {self._total}, {self._speed()}")

    def describe(self, what: str, total: int | None = None, done: int = 0) -> None:
        """Name the work anew; with a total, its next part begins, of so many, of which some are done."""
        with _lock:
            self._what = what
            if total is not None:
                self._total, self._done = total, done
                self._restart()
            self._draw()

    def note(self, line: str) -> None:
        """Write a line that stays: above the bars, or among the lines."""
        with _lock:
            if self._bar:
                self._draw(now=True)
                self._display.console.print(line, markup=False, highlight=False)
            elif self._lines:
                self._write(line)

    def _restart(self) -> None:
        self._before = self._done
        self._began = self._said = self._clock()

    def _write(self, line: str) -> None:
        if self._tell is not None:
            self._tell(line)
        elif self._stream is not None:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def _draw(self, *, now: bool = False) -> None:
        """Bring the row up to date, from when there is to be one."""
        with _lock:
            if not self._bar or (self._display is None and not now and self._clock() - self._began < self._after):
                return
            if self._display is None:
                self._display, self._row = _join(self._stream, self._what, self._total)
            self._display.update(
                self._row, description=self._what, total=self._total, completed=self._done, speed=self._speed()
            )

    def _speed(self) -> str:
        """Describe the rate since the beginning, and the time that the rest takes at it."""
        if self._done <= self._before:
            return ""
        rate = (self._done - self._before) / max(self._clock() - self._began, 1e-9)
        left = timedelta(seconds=round(max(self._total - self._done, 0) / rate))
        return f"{rate:.1f}/s, {left} left"


def _standard_error() -> IO[str] | None:
    # While a display is drawn, rich stands in for standard error, and says of itself that it is no terminal.
    return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _is_terminal(stream: IO[str] | None) -> bool:
    stream = getattr(stream, "rich_proxied_file", stream)
    return stream is not None and not stream.closed and stream.isatty()


def _join(stream: IO[str] | None, what: str, total: int) -> tuple[Any, Any]:
    """Add a row to the stream's display, which is started where no bar is open; returns the display and the row."""
    display = _displays.get(id(stream))
    if display is None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Display

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", style="progress.data.speed", markup=False),
        )
        # What goes to a pipe or a file must not be drawn into the display.
        display = Display(
            *columns,
            console=Console(file=stream, force_terminal=True),
            transient=True,
            redirect_stdout=_is_terminal(sys.stdout),
        )
        row = display.add_task(what, total=total, speed="")
        display.start()
        _displays[id(stream)] = display
        return display, row
    return display, display.add_task(what, total=total, speed="")


def _leave(stream: IO[str] | None, row: Any) -> None:  # noqa: ANN401 - rich's id of a row
    """Take a row from the stream's display, which ends with its last row."""
    display = _displays[id(stream)]
    if len(display.tasks) > 1:
        display.remove_task(row)
        return
    del _displays[id(stream)]
    display.stop()
