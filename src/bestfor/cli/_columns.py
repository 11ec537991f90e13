"""Recognise the columns of ``bestfor diagnose TABLE``, and write the page with what its candidates say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.diagnostics import Diagnosis
    from bestfor.runs.recognised import ShownColumns
    from bestfor.runs.table import TableColumns


def recognised_columns(table: Path, columns: TableColumns) -> tuple[TableColumns, tuple[str, ...]]:
    """Recognise columns whose default names the table lacks, with a sentence for each.

    Raises:
        InputError: two columns fit one role, or the table cannot be read.
    """
    from bestfor.data.read.tables import columns_of
    from bestfor.runs.recognised import recognise

    return recognise(str(table), columns_of(table), columns)


def shown_columns(table: Path, columns: TableColumns, given: SimpleNamespace) -> ShownColumns:
    """Find the columns of what candidates say and of what was asked, none where no page is wanted.

    Args:
        table: that is diagnosed.
        columns: those that have a role already.
        given: options ``text``, ``response`` and ``prompt``, None where they are to be recognised, and ``out``.

    Raises:
        InputError: no such column, two that fit, both --text and --response, or --text with ids.
    """
    from bestfor.data.read.tables import columns_of
    from bestfor.runs.recognised import ShownColumns, recognise_shown
    from bestfor.runs.responses import looks_like_ids

    names = columns_of(table)
    if given.text is not None and given.response is not None:
        raise InputError("--text", "--response as well, which is the same", "one of them; --text-id for ids of texts")
    for option in ("text", "response", "prompt"):
        name = getattr(given, option)
        if name is not None and name not in names:
            raise InputError(str(table), f"no column '{name}'", f"--{option} with one of {', '.join(names)}")
    if given.text is not None and looks_like_ids(table, given.text):
        found = f"'{given.text}', whose values look like ids; --text is the column of what candidates say"
        expected = f"--text-id {given.text} for ids of texts that users share, or --response {given.text} to show them"
        raise InputError("--text", found, expected)
    if given.out is None:
        return ShownColumns(None, None)
    return recognise_shown(str(table), names, columns, (given.text or given.response, given.prompt))


def write_page(out: Path, table: Path, columns: TableColumns, diagnosis: Diagnosis, shown: ShownColumns) -> None:
    """Write the page of a table's diagnosis with the texts of its column of responses, if there is one.

    Args:
        out: the page.
        table: that was diagnosed.
        columns: its columns.
        diagnosis: of it.
        shown: columns of responses and prompts.

    Raises:
        InputError: the table cannot be read any more, or the page not be written.
    """
    from bestfor.report import write_html
    from bestfor.runs.about import day_of
    from bestfor.runs.responses import spoken_texts

    data, date = table.name, f"file of {day_of(table)}"
    if shown.response is None:
        write_html(out, diagnosis, data=data, date=date)
        return
    found = spoken_texts(table, columns, shown.response, shown.prompt, diagnosis)
    write_html(out, diagnosis, texts=found.texts, inputs=found.inputs, spoken=found.section, data=data, date=date)
