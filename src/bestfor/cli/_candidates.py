"""Arguments that ``select`` and ``score`` share: where candidates come from, and where answers go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bestfor.cli._output import Stopwatch, tell, writable
from bestfor.errors import InputError
from bestfor.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from bestfor.data.requests import RequestBatch
    from bestfor.runs.picks import ModelSource

From = Annotated[Path, typer.Argument(help="The folder of a run or of a model.", show_default=False)]
CandidatesFile = Annotated[
    Path | None,
    typer.Argument(
        help="JSON lines {user, prompt, texts, history?, query?}, Parquet with these columns, or CSV with one row a "
        "candidate (user, prompt, text, query?); - for JSON lines on standard input; the run's test queries where "
        "nothing is said.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Which of a run's models (that of its headline where nothing is said).")
]
OutFile = Annotated[
    Path | None, typer.Option(help="A file, .jsonl or .parquet (JSON lines on standard output).", show_default=False)
]


def candidates_of(
    sources: list[ModelSource], file: Path | None, out: Path | None
) -> Iterator[tuple[ModelSource, Iterator[RequestBatch]]]:
    """Give each model with the requests that it scores.

    Raises:
        InputError: no candidates where a model's folder was given, or a run of several folds beside a file.
    """
    from bestfor.data.requests import count_requests, requests_of_file, requests_of_lines
    from bestfor.runs.picks import pool_requests

    if file is None:
        for one in sources:
            if one.run is None:
                raise InputError("CANDIDATES", "nothing", "a file, or - for JSON lines on standard input")
            yield one, _shown(pool_requests(one.run), 0)
        return
    if len(sources) > 1:
        found = f"a run of {len(sources)} folds, each with models of its own"
        raise InputError("RUN", found, f"one of them, such as {sources[0].run}")
    if str(file) == "-":
        yield sources[0], requests_of_lines(sys.stdin.buffer, "standard input")
        return
    if not file.is_file():
        raise InputError(str(file), "no file", "JSON lines, Parquet or CSV, or - for standard input")
    if out is not None:
        writable(out, keep=file)
    yield sources[0], _shown(requests_of_file(file), count_requests(file))


def _shown(batches: Iterator[RequestBatch], total: int) -> Iterator[RequestBatch]:
    """Show how far a file is read."""
    with Progress("requests", total, after=0.5) as progress:
        for batch in batches:
            yield batch
            progress.advance(len(batch.requests))


def written(
    objects: Iterable[dict[str, Any]],
    out: Path | None,
    columns: pa.Schema,
    without: list[str],
    rows: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda one: [one],
) -> None:
    """Write what comes, and say on standard error what a file holds and which queries have no answer."""
    from bestfor.runs.written import check_suffix, write_objects

    watch = Stopwatch()
    if out is not None:
        check_suffix(out)
        writable(out)
    count = write_objects(objects, out, sys.stdout, columns, rows)
    if without:
        tell(f"{len(without)} requests have no candidate with a reward, such as query '{without[0]}': none is picked")
    if out is not None:
        tell(f"{out}: {count} requests")
        tell(watch.line())
