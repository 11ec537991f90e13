"""Run ``bestfor select RUN_OR_MODEL``: pick each user's answer among candidates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from bestfor.cli._candidates import CandidatesFile, From, Model, OutFile, candidates_of, written
from bestfor.errors import InputError

N = Annotated[int | None, typer.Option(help="Look at so many candidates of each request.", show_default=False)]


def select(
    source: From,
    candidates: CandidatesFile = None,
    rule: Annotated[
        str,
        typer.Option(
            help="best, second, median, rank:K, top:K, trimmed:SHARE, epsilon:SHARE, cap:C, first:C, lower:DEVIATIONS, "
            "length_capped:WORDS (or length_capped:400characters), soft:TEMPERATURE or thompson."
        ),
    ] = "best",
    n: N = None,
    subset: Annotated[
        Literal["first", "random"],
        typer.Option(help="Which N: the first, as they came, or any, drawn by the seed, the user and the query."),
    ] = "first",
    model: Model = None,
    seed: Annotated[int, typer.Option(help="Of picks by chance, and of random subsets.")] = 0,
    out: OutFile = None,
) -> None:
    """Pick each user's answer among the candidates of a run's test queries, of a file, or of standard input.

    For example: bestfor select runs/demo candidates.jsonl --rule epsilon:0.1 --out picks.parquet
    """
    from bestfor.runs.picks import Picking, narrowed, open_sources, score_requests
    from bestfor.runs.written import PICK_COLUMNS, pick_object
    from bestfor.selection import named_rule

    if n is not None and n < 1:
        raise InputError("--n", str(n), "at least 1")
    picking = Picking(named_rule(rule), n, subset, seed)
    without: list[str] = []

    def objects() -> Iterator[dict[str, Any]]:
        for one, batches in candidates_of(open_sources(source, model), candidates, out):
            for request, scores in score_requests(one.model, narrowed(batches, picking)):
                answer = picking.pick(request, scores)
                if answer is None:
                    without.append(request.query)
                    continue
                yield pick_object(answer, one.label)

    written(objects(), out, PICK_COLUMNS, without)
