"""Hold rows of candidates whose users, queries and texts are coded, so that equal ones are stored once."""

from __future__ import annotations

from dataclasses import dataclass

from bestfor.types import FloatArray, IntArray


@dataclass(frozen=True, repr=False)
class CandidateRows:
    """Candidates as rows; the fields are those of :class:`bestfor.data.candidates.Candidates`, which adds histories."""

    users: tuple[str, ...]
    queries: tuple[str, ...]
    inputs: tuple[str, ...]
    texts: tuple[str, ...]
    user: IntArray
    query: IntArray
    text: IntArray
    candidate: IntArray
    utility: FloatArray
    logprob: FloatArray
