"""Code all candidates of a run once, and take its fit part and its test part from that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from bestfor.data.candidates import Candidates
from bestfor.data.others import others_of
from bestfor.types import BoolArray, FloatArray, IntArray

Split = Literal["fit", "test"]


@dataclass(frozen=True)
class CandidateParts:
    """All candidates of a run, coded once in canonical order, and which of them are for fitting and which for testing.

    Attributes:
        whole: n rows in the order of (query, candidate); queries in the order of the run's table of them.
        owner: shape (queries,), the code of each query's user.
        tested: shape (queries,), whether it is a test query.
        text_ids: ids of texts, which users share.
        text_id: shape (n,), codes of the rows' text ids.
    """

    whole: Candidates
    owner: IntArray
    tested: BoolArray
    text_ids: tuple[str, ...]
    text_id: IntArray

    def part(self, split: Split) -> Candidates:
        """Take one part; its rows are a view where its queries follow one another.

        Args:
            split: ``"fit"`` or ``"test"``.

        Returns:
            Rows in the order of the whole; all queries of the part, its users and texts by first appearance.
        """
        whole, kept = self.whole, self.tested == (split == "test")
        queries, rows = np.flatnonzero(kept), self._rows(split)
        place = np.cumsum(kept) - 1
        users, owner = _by_appearance(self.owner[queries])
        texts, text = _by_appearance(whole.text[rows])
        query = place[whole.query[rows]]
        return Candidates(
            users=tuple(whole.users[code] for code in users.tolist()),
            queries=tuple(whole.queries[code] for code in queries.tolist()),
            inputs=tuple(whole.inputs[code] for code in queries.tolist()),
            texts=tuple(whole.texts[code] for code in texts.tolist()),
            user=owner[query] if len(owner) else query,
            query=query,
            text=text,
            candidate=whole.candidate[rows],
            utility=whole.utility[rows],
            logprob=whole.logprob[rows],
            history=whole.history,
            comments=whole.comments,
            said=whole.said if split == "fit" else None,
            others=None if split == "fit" or whole.others is None else whole.others.take(rows),
        )

    @cached_property
    def fit(self) -> Candidates:
        """The fit part without rows that have no utility: a judge, for one, may have nothing to say about some."""
        part = self.part("fit")
        known = np.isfinite(part.utility)
        return part if known.all() else part.take(known)

    @cached_property
    def test(self) -> Candidates:
        """The test part as reward models see it: its utilities are NaN."""
        part = self.part("test")
        return replace(part, utility=np.full(len(part), np.nan))

    @property
    def fit_count(self) -> int:
        """Rows of the fit part, with and without a utility."""
        return len(self.whole) - len(self.test_utility)

    @property
    def test_utility(self) -> FloatArray:
        """Utilities of the test part's rows, NaN where they are unknown."""
        return self.whole.utility[self._rows("test")]

    @property
    def test_text_ids(self) -> pa.DictionaryArray:
        """Text ids of the test part's rows."""
        used, code = np.unique(self.text_id[self._rows("test")], return_inverse=True)
        return coded_ids([self.text_ids[at] for at in used.tolist()], code)

    @property
    def test_sizes(self) -> IntArray:
        """Candidates of each test query that has any."""
        counts = np.bincount(self.whole.query, minlength=len(self.tested))[self.tested]
        return counts[counts > 0].astype(np.int64)

    def with_utilities(self, utility: FloatArray) -> CandidateParts:
        """Put other utilities, one a row of the whole, in the place of these."""
        return CandidateParts(
            replace(self.whole, utility=utility), self.owner, self.tested, self.text_ids, self.text_id
        )

    def with_others(self, table: pa.Table | None) -> CandidateParts:
        """Add what others said of the test candidates, from the run's table of it; None adds nothing."""
        if table is None:
            return self
        query = [self.whole.queries[code] for code in self.whole.query.tolist()]
        others = others_of(table, query, self.whole.candidate)
        return replace(self, whole=replace(self.whole, others=others))

    def keep(self, rows: IntArray) -> CandidateParts:
        """Keep some rows, with only the queries, users and texts that these have.

        Args:
            rows: shape (k,), increasing.
        """
        whole = self.whole
        queries, query = np.unique(whole.query[rows], return_inverse=True)
        users, owner = np.unique(self.owner[queries], return_inverse=True)
        texts, text = np.unique(whole.text[rows], return_inverse=True)
        kept = Candidates(
            users=tuple(whole.users[code] for code in users.tolist()),
            queries=tuple(whole.queries[code] for code in queries.tolist()),
            inputs=tuple(whole.inputs[code] for code in queries.tolist()),
            texts=tuple(whole.texts[code] for code in texts.tolist()),
            user=owner[query].astype(np.int64) if len(owner) else query,
            query=query.astype(np.int64),
            text=text.astype(np.int64),
            candidate=whole.candidate[rows],
            utility=whole.utility[rows],
            logprob=whole.logprob[rows],
            history=whole.history,
            comments=whole.comments,
            others=None if whole.others is None else whole.others.take(rows),
        )
        return CandidateParts(kept, owner.astype(np.int64), self.tested[queries], self.text_ids, self.text_id[rows])

    def _rows(self, split: Split) -> slice | IntArray:
        rows = np.flatnonzero(self.tested[self.whole.query] == (split == "test"))
        together = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
        return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows


def coded_ids(names: list[str] | tuple[str, ...], codes: IntArray) -> pa.DictionaryArray:
    """Make a column of strings that is stored as codes, each name once."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int64()), pa.array(names, pa.string()))


def _by_appearance(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Number codes anew in the order in which they first appear: the codes in that order, and each row's number."""
    used, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return used[order], number[inverse]
