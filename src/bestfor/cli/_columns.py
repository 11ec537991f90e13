"""Recognise the columns of ``bestfor diagnose TABLE``, and write the page with what its candidates say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bestfor.errors import InputError

if TYPE_CHECKING:
    from bestfor.diagnostics import Diagnosis
    from bestfor.runs.table import TableColumns


def recognised_columns(table: Path, columns: TableColumns) -> tuple[TableColumns, tuple[str, ...]]:
    """Recognise columns whose default names the table lacks, with a sentence for each.

    Raises:
        InputError: two columns fit one role, or the table cannot be read.
    """
    from bestfor.data.read.tables import columns_of
    from bestfor.runs.recognised import recognise

    return recognise(str(table), columns_of(table), columns)


def write_page(
    out: Path, table: Path, columns: TableColumns, diagnosis: Diagnosis, named: tuple[str | None, str | None]
) -> None:
    """Write the page of a table's diagnosis with the texts of its column of responses, if there is one.

    Args:
        out: the page.
        table: that was diagnosed.
        columns: its columns.
        diagnosis: of it.
        named: columns of responses and prompts, None where they are to be recognised.

    Raises:
        InputError: no such column.
    """
    from bestfor.data.read.tables import columns_of
    from bestfor.report import write_html
    from bestfor.runs.about import day_of
    from bestfor.runs.recognised import PROMPT, RESPONSE, column_like
    from bestfor.runs.responses import spoken_texts

    names = columns_of(table)
    for option, name in zip(("--response", "--prompt"), named, strict=True):
        if name is not None and name not in names:
            raise InputError(str(table), f"no column '{name}'", f"{option} with one of {', '.join(names)}")
    response = named[0] or column_like(str(table), names, RESPONSE, "--response")
    prompt = named[1] or column_like(str(table), names, PROMPT, "--prompt")
    data, date = table.name, f"file of {day_of(table)}"
    if response is None:
        write_html(out, diagnosis, data=data, date=date)
        return
    found = spoken_texts(table, columns, response, prompt, diagnosis)
    write_html(out, diagnosis, texts=found.texts, inputs=found.inputs, spoken=found.section, data=data, date=date)
