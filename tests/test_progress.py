import ast
import io
import multiprocessing
import sys
from pathlib import Path

import pytest
from rich.console import Console

import bestfor
from bestfor import progress
from bestfor.progress import Progress

SOURCE = Path(bestfor.__file__).parent


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_log_gets_a_line_every_thirty_seconds(clock):
    log = io.StringIO()
    with Progress("candidates", 20, 4, stream=log, clock=clock) as shown:
        for _ in range(15):
            clock.now += 10
            shown.advance()
        clock.now += 10
        shown.advance()
    assert log.getvalue().splitlines() == [
        "candidates: 7 of 20, 0.1/s, 0:02:10 left",
        "candidates: 10 of 20, 0.1/s, 0:01:40 left",
        "candidates: 13 of 20, 0.1/s, 0:01:10 left",
        "candidates: 16 of 20, 0.1/s, 0:00:40 left",
        "candidates: 19 of 20, 0.1/s, 0:00:10 left",
    ]


def test_work_shorter_than_that_leaves_no_line(clock):
    log = io.StringIO()
    with Progress("rougeL", 3, stream=log, clock=clock) as shown:
        for _ in range(3):
            clock.now += 9.9
            shown.advance()
    with Progress("rougeL", 1, stream=log, clock=clock) as shown:
        clock.now += 1000
        shown.advance()
    assert log.getvalue() == ""


def test_lines_go_to_whoever_takes_them(clock):
    log, said = io.StringIO(), []
    for show in (None, False):
        with Progress("candidates", 9, show=show, tell=said.append, stream=log, clock=clock) as shown:
            clock.now += 30
            shown.advance(3)
    assert said == ["candidates: 3 of 9, 0.1/s, 0:01:00 left"] * 2
    assert log.getvalue() == ""


def test_nothing_is_written_where_silence_is_wanted(clock):
    for stream in (io.StringIO(), Terminal()):
        with Progress("heads", 9, show=False, stream=stream, clock=clock) as shown:
            clock.now += 60
            shown.advance()
            shown.note("loss 1")
        assert stream.getvalue() == ""
    with Progress.on(None, "adapters", 9) as shown:
        shown.advance()
        shown.note("loss 1")


def test_nothing_is_written_without_standard_error_or_in_a_worker_process(monkeypatch, clock):
    log = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(multiprocessing, "parent_process", lambda: object())
        with Progress("Encoding", 9, stream=log, clock=clock) as shown:
            clock.now += 60
            shown.advance()
    assert log.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    for show in (None, True):
        with Progress("Encoding", 9, show=show, clock=clock) as shown:
            clock.now += 60
            shown.advance()


def test_a_part_that_begins_has_its_own_rate(clock):
    log = io.StringIO()
    with Progress("labels", 0, stream=log, clock=clock) as shown:
        shown.describe("heads", 40)
        clock.now += 30
        shown.advance(3)
        shown.describe("adapter for everybody", 100, 10)
        clock.now += 30
        shown.advance(30)
    assert log.getvalue().splitlines() == [
        "heads: 3 of 40, 0.1/s, 0:06:10 left",
        "adapter for everybody: 40 of 100, 1.0/s, 0:01:00 left",
    ]


def test_a_terminal_sees_what_is_done_and_how_fast(clock):
    terminal = Terminal()
    with Progress("judged by [m]", 40, stream=terminal, clock=clock) as shown:
        clock.now += 5
        shown.advance(10)
        shown.advance(10)
    assert "judged by [m]" in terminal.getvalue()
    assert "20/40" in terminal.getvalue()
    assert "4.0/s, 0:00:05 left" in terminal.getvalue()
    assert progress._displays == {}


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, capsys):
    with Progress("quiet", 3) as shown:
        shown.advance()
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("judged by [m]", 3) as shown:
        shown.advance()
    assert "judged by [m]" in terminal.getvalue()
    assert sys.stderr is terminal


def test_a_bar_that_is_asked_for_is_drawn_anywhere_and_at_once(clock):
    log = io.StringIO()
    with Progress("rougeL", 3, show=True, after=2.0, stream=log, clock=clock) as shown:
        shown.advance(3)
    assert "3/3" in log.getvalue()


def test_a_bar_waits_until_the_work_has_taken_a_while(clock):
    terminal = Terminal()
    with Progress("rougeL", 3, after=2.0, stream=terminal, clock=clock) as shown:
        clock.now += 1.9
        shown.advance()
    assert terminal.getvalue() == ""
    with Progress("rougeL", 3, after=2.0, stream=terminal, clock=clock) as shown:
        clock.now += 2
        shown.advance()
    assert "1/3" in terminal.getvalue()


def test_bars_within_bars_are_rows_of_one_display(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("outer", 2) as outer:
        (display,) = progress._displays.values()
        with Progress("inner", 5, 1) as inner:
            inner.advance(2)
            assert list(progress._displays.values()) == [display]
            assert [(row.description, row.completed) for row in display.tasks] == [("outer", 0), ("inner", 3)]
        outer.advance()
        assert [(row.description, row.completed) for row in display.tasks] == [("outer", 1)]
    assert progress._displays == {}
    assert "1/2" in terminal.getvalue()


def test_a_display_ends_where_the_work_fails():
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress("outer", 2, stream=terminal), Progress("in", 2, stream=terminal):
        raise KeyboardInterrupt
    assert progress._displays == {}


def test_notes_stay():
    log, terminal = io.StringIO(), io.StringIO()
    with Progress.on(Console(file=log), "fine-tuning", 2) as shown:
        shown.note("{'loss': [1]}")
    with Progress.on(Console(file=terminal, force_terminal=True), "fine-tuning", 2) as shown:
        shown.note("{'loss': [1]}")
        shown.advance()
    assert log.getvalue() == "{'loss': [1]}\n"
    assert "{'loss': [1]}\n" in terminal.getvalue()
    assert "1/2" in terminal.getvalue()


def test_outside_of_its_context_it_counts_in_silence(clock):
    log = io.StringIO()
    shown = Progress("heads", 9, show=True, stream=log, clock=clock)
    shown.advance()
    with shown:
        pass
    drawn = log.getvalue()
    assert "1/9" in drawn
    clock.now += 60
    shown.advance()
    shown.note("late")
    assert log.getvalue() == drawn


@pytest.mark.slow
def test_nobody_else_draws_bars():
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if any(f"{module}.{name}".lstrip(".").startswith("rich.progress") for name in names):
                found.append(path.relative_to(SOURCE).as_posix())
    assert set(found) == {"progress.py"}
