"""Show how models predict held-out answers, on the page and in the terminal: AUC, accuracy, losses, by shots."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestfor.report import words

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import Console

FILE = "held_out.json"

COLUMNS = {
    "auc": "AUC",
    "accuracy": "pairs told right",
    "log_loss": "log-loss",
    "log_loss_gain": "log-loss gained",
    "square": "squared error",
    "bias": "predicted less observed",
}
"""Figures that are shown, and their heads; a column in which nobody has one is left out."""

LEAD = (
    "Means over users with intervals over users. AUC: the share of a user's pairs of held-out answers with different "
    "outcomes that the rewards order right, over all prompts; pairs told right: the same within a prompt. Log-loss "
    "gained: over predicting the mean for everybody. A user's shots are their labels at fitting; users without are "
    "unseen."
)


AFTER = "Fitted again with so many shots of each user"

LEAD_AFTER = (
    " Fitted again: a fold's users give none of their {unit}, then more, beside everybody else's; the same users and "
    "answers in each row. Gained: the mean over users of what that changes."
)

SHOWN_GAINS = ("accuracy", "auc")
"""Figures whose gain over the first point is shown, the first that is there."""


@dataclass(frozen=True)
class HeldOutRow:
    """Row of the table: a model over some users."""

    model: str
    shots: str
    users: int
    answers: int
    cells: tuple[tuple[str, str], ...]
    ece: str


@dataclass(frozen=True)
class HeldOutSection:
    """Section of held-out figures: heads, rows of all users, by shots and of models fitted again, notes and a chart."""

    heads: tuple[str, ...]
    rows: tuple[HeldOutRow, ...]
    by_shots: tuple[HeldOutRow, ...]
    notes: tuple[str, ...]
    lead: str = LEAD
    after: tuple[HeldOutRow, ...] = ()
    chart: Markup | None = None

    @property
    def tables(self) -> tuple[tuple[str, tuple[HeldOutRow, ...]], ...]:
        """Titles and rows of the tables that have any."""
        told = (("All users", self.rows), ("By shots", self.by_shots), (AFTER, self.after))
        return tuple((title, rows) for title, rows in told if rows)


def read_held_out(folder: Path) -> HeldOutSection | None:
    """Read the figures that a run left; None where there are none."""
    try:
        return _section(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a torn file is written again by the next run: the page goes without


def print_held_out(section: HeldOutSection, console: Console) -> None:
    """Print the figures as two tables."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for title, rows in section.tables:
        console.print()
        console.print(Text(_TITLES.get(title, title), style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("model", overflow="fold")
        parted = rows is not section.rows
        more = ("gained",) if rows is section.after else ()
        heads = ("shots", "users", *section.heads, *more) if parted else ("users", *section.heads, "ECE")
        for head in heads:
            table.add_column(head, justify="right")
        for row in rows:
            figures = ("\n".join(part for part in cell if part) for cell in row.cells)
            cells = (row.shots, row.users, *figures) if parted else (row.users, *figures, row.ece)
            table.add_row(*(Text(words.clean(str(one))) for one in (row.model, *cells)))
        console.print(table)
    for note in section.notes:
        console.print(Text(note, style="dim"))


_TITLES = {"All users": "Held-out answers", "By shots": "Held-out answers by shots"}


def _section(found: dict[str, Any]) -> HeldOutSection:
    models = found["models"]
    shown = [name for name in COLUMNS if any(one[name]["value"] is not None for one in models.values())]
    rows = [_row(name, "", one, shown) for name, one in models.items()]
    parts = [(name, part) for name, one in models.items() for part in one["by_shots"]]
    several = len({(part["from"], part["to"]) for _, part in parts}) > 1
    by_shots = [_row(name, _shots(part), part, shown) for name, part in parts] if several else []
    notes = tuple(str(note) for note in found["notes"])
    heads = tuple(COLUMNS[name] for name in shown)
    after = found.get("after_shots")
    if after is None:
        return HeldOutSection(heads, tuple(rows), tuple(by_shots), notes)
    again = tuple(_after(name, point, shown) for name, points in after["models"].items() for point in points)
    lead = LEAD + LEAD_AFTER.format(unit=after["unit"])
    return HeldOutSection(heads, tuple(rows), tuple(by_shots), notes, lead, again, _chart(after))


def _after(name: str, point: dict[str, Any], shown: list[str]) -> HeldOutRow:
    """Make the row of a model fitted again, with what it gained over the first."""
    shots = "all" if point["shots"] is None else str(point["shots"])
    row = _row(name, shots, point, shown)
    figure = next((one for one in SHOWN_GAINS if one in shown), "auc")
    return replace(row, cells=(*row.cells, _cell(point["gained"][figure], signed=True)))


def _chart(after: dict[str, Any]) -> Markup | None:
    from bestfor.report.charts.shots import ShotCurves, chart_of

    figure = next((one for one in SHOWN_GAINS if _has(after, one)), "")
    return chart_of(ShotCurves.of(after, figure, COLUMNS[figure])) if figure else None


def _has(after: dict[str, Any], figure: str) -> bool:
    return any(point[figure]["value"] is not None for points in after["models"].values() for point in points)


def _shots(part: dict[str, Any]) -> str:
    low, high = part["from"], part["to"]
    return f"{low} and more" if high is None else str(low) if low == high else f"{low} to {high}"


def _row(name: str, shots: str, found: dict[str, Any], shown: list[str]) -> HeldOutRow:
    cells = tuple(_cell(found[one], signed=one in ("log_loss_gain", "bias")) for one in shown)
    return HeldOutRow(name, shots, int(found["users"]), int(found["answers"]), cells, words.number(found["ece"]))


def _cell(figure: dict[str, Any], *, signed: bool) -> tuple[str, str]:
    between = words.span(figure["low"], figure["high"], "number")
    return words.number(figure["value"], signed=signed), between
