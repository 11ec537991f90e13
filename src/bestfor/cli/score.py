"""Run ``bestfor score RUN_OR_MODEL``: the reward of every candidate, with its standard deviations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bestfor.cli._candidates import CandidatesFile, From, Model, OutFile, candidates_of, written


def score(source: From, candidates: CandidatesFile = None, model: Model = None, out: OutFile = None) -> None:
    """Score the candidates of a run's test queries, of a file, or of standard input: mean, std, std_mean, served.

    For example: bestfor score runs/demo/models/hierarchical - < candidates.jsonl
    """
    from bestfor.runs.picks import open_sources, score_requests
    from bestfor.runs.written import SCORE_COLUMNS, score_object, score_rows

    def objects() -> Iterator[dict[str, Any]]:
        for one, batches in candidates_of(open_sources(source, model), candidates, out):
            for request, scores in score_requests(one.model, batches):
                yield score_object(request, scores, one.label)

    written(objects(), out, SCORE_COLUMNS, [], score_rows)
