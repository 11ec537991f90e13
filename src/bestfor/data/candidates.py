"""Candidates as coded arrays with their users' histories: the input of every reward model's fit and prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bestfor.data.coded import CandidateRows
from bestfor.data.labels import Labels
from bestfor.data.others import OtherRatings
from bestfor.errors import InputError
from bestfor.moved import renamed
from bestfor.types import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__getattr__ = renamed(__name__, {"Examples": "Candidates"})


@dataclass(frozen=True)
class History:
    """Texts that users wrote, with how many of them each query may see.

    Attributes:
        texts: each user's texts, oldest first.
        seen: how many of them came before a query, by query id; all where the query is not named.
        tested: how many of them came before a user's first test query, by user; all where the user is not named.
    """

    texts: Mapping[str, tuple[str, ...]]
    seen: Mapping[str, int] = field(default_factory=dict)
    tested: Mapping[str, int] = field(default_factory=dict)

    def before(self, user: str, query: str) -> tuple[str, ...]:
        """Give the user's texts that came before a query: never the query's own, never a later one."""
        return self.texts.get(user, ())[: self.seen.get(query)]

    def before_tests(self, user: str) -> tuple[str, ...]:
        """Give the user's texts that each of their test queries sees: these may be summarised once, at fit."""
        return self.texts.get(user, ())[: self.tested.get(user)]


@dataclass(frozen=True, repr=False)
class Candidates(CandidateRows):
    """Candidates as rows; users, queries and texts are coded, so equal texts are stored once.

    Attributes:
        users: user ids; ``user`` indexes them.
        queries: query ids; ``query`` indexes them.
        inputs: what each query asks, aligned with ``queries`` (empty strings where people rated bare texts).
        texts: distinct texts; ``text`` indexes them.
        user: shape (n,), code of each row's user.
        query: shape (n,), code of each row's query.
        text: shape (n,), code of each row's text.
        candidate: shape (n,), the candidate's index within its query.
        utility: shape (n,), the measured utility, NaN where it is unknown.
        logprob: shape (n,), the policy's log-probability of the text, NaN where the text was not sampled.
        history: what the users wrote, None where nobody knows.
        comments: (query id, candidate) -> what the user said of a labelled candidate, None where nobody said anything.
        said: all that each user said, by user, where utilities sum up labels of several kinds; None where they are all.
        others: what other people said of the very candidates, for predictions alone: no fit looks at it.
    """

    history: History | None = None
    comments: Mapping[tuple[str, int], str] | None = None
    said: Mapping[str, Labels] | None = None
    others: OtherRatings | None = None

    @classmethod
    def of(
        cls,
        user: str | Sequence[str],
        prompt: str | Sequence[str],
        texts: Sequence[str] | Sequence[Sequence[str]],
        utilities: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
        history: History | Sequence[str] | None = None,
        *,
        query: str | Sequence[str] | None = None,
    ) -> Candidates:
        """Code the candidates of one request, or of many at once.

        Args:
            user: who asks; one for each request where there are many.
            prompt: what is asked (empty where people rate bare texts); likewise.
            texts: the request's n texts; a sequence of such for many requests.
            utilities: n numbers, aligned with ``texts``; None where they are unknown.
            history: what the user wrote before, oldest first; for many requests a :class:`History`.
            query: ids of the requests; their numbers from 0 where None.

        Returns:
            Rows in the order given: the i-th request's texts one after another.

        Raises:
            InputError: users, prompts, texts, utilities or ids that do not go together, or the same id twice.
        """
        if isinstance(user, str) and isinstance(prompt, str) and utilities is None and query is None:
            return _one_request(user, prompt, _texts_of(texts), history)
        one = isinstance(user, str)
        requests = _Requests(
            users=[user] if isinstance(user, str) else list(user),
            prompts=[prompt] if isinstance(prompt, str) else list(prompt),
            texts=[_texts_of(each) for each in ([texts] if one else texts)],
            utilities=None if utilities is None else [utilities] if one else list(utilities),  # pyright: ignore
        )
        ids = [str(place) for place in range(len(requests.users))] if query is None else query
        ids = [ids] if isinstance(ids, str) else list(ids)
        if isinstance(history, Sequence):
            if not one:
                raise InputError("history", "a list of texts for many requests", "a History, which says whose they are")
            history = History({requests.users[0]: _texts_of(history)})
        return requests.code(ids, history)

    @classmethod
    def of_rows(
        cls,
        rows: object,
        columns: Mapping[str, str] | None = None,
        *,
        history: History | None = None,
    ) -> Candidates:
        """Code the rows of a table, one a candidate, in their order.

        ``model.predict(Candidates.of_rows(frame)).mean`` stands row for row beside ``frame``.

        Args:
            rows: a pandas or polars DataFrame, an Arrow table, anything else with the Arrow stream interface, a mapping
                of column names to arrays or lists, or a .csv, .tsv, .jsonl or .parquet file. Columns ``user`` (or
                ``user_id``) and ``text``, and where there are any ``query`` (``query_id``), ``prompt`` (``input``),
                ``candidate``, ``utility`` and ``logprob``. Without queries, what a user is asked by one prompt is a
                query; without candidates, a query's rows are numbered.
            columns: other names of these columns, by the first name above.
            history: what the users wrote.

        Raises:
            InputError: a column or a text is missing, a cell is not a number, a query has two users or prompts, or a
                candidate stands twice.
        """
        from bestfor.data.frames import code_rows

        return cls(**vars(code_rows(rows, columns)), history=history)

    def to_arrow(self) -> pa.Table:
        """Make an Arrow table of the rows: query_id, user_id, input, candidate, text, utility, logprob.

        What is unknown is null. :meth:`of_rows` takes it back.
        """
        import pyarrow as pa

        def strings(names: tuple[str, ...], codes: IntArray) -> pa.Array:
            return pa.array(names, pa.string()).take(pa.array(codes))

        columns = {
            "query_id": strings(self.queries, self.query),
            "user_id": strings(self.users, self.user),
            "input": strings(self.inputs, self.query),
            "candidate": pa.array(self.candidate, pa.int64()),
            "text": strings(self.texts, self.text),
            "utility": pa.array(self.utility, pa.float64(), from_pandas=True),
            "logprob": pa.array(self.logprob, pa.float64(), from_pandas=True),
        }
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """Make a pandas DataFrame of the rows; see :meth:`to_arrow`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from bestfor.data.frames import to_pandas

        return to_pandas(self.to_arrow())

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        asked, owners = len(np.unique(self.query)), len(np.unique(self.user))
        return f"Candidates({len(self)} rows, {asked} queries, {owners} users, {len(self.texts)} texts)"

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Candidates:
        """Select rows by an index or a mask; users, queries and texts keep their codes."""
        return Candidates(
            self.users,
            self.queries,
            self.inputs,
            self.texts,
            self.user[rows],
            self.query[rows],
            self.text[rows],
            self.candidate[rows],
            self.utility[rows],
            self.logprob[rows],
            self.history,
            self.comments,
            self.said,
            None if self.others is None else self.others.take(rows),
        )


def _one_request(user: str, prompt: str, texts: tuple[str, ...], history: History | Sequence[str] | None) -> Candidates:
    """Code the candidates of one request, whose scores take no longer than coding many would."""
    if isinstance(history, Sequence):
        history = History({user: _texts_of(history)})
    count, distinct = len(texts), dict.fromkeys(texts)
    text = np.arange(count)
    if len(distinct) < count:
        place = {text: code for code, text in enumerate(distinct)}
        text = np.array([place[text] for text in texts], dtype=np.int64)
    user_of, query_of = np.zeros((2, count), dtype=np.int64)
    utility, logprob = np.full((2, count), np.nan)
    given = ((user,), ("0",), (prompt,), tuple(distinct), user_of, query_of, text, np.arange(count), utility, logprob)
    return Candidates(*given, history=history)


@dataclass(frozen=True)
class _Requests:
    """Requests as they came: whose, what was asked, the texts and their utilities where they are known."""

    users: list[str]
    prompts: list[str]
    texts: list[tuple[str, ...]]
    utilities: list[npt.ArrayLike] | None

    def code(self, ids: list[str], history: History | None) -> Candidates:
        """Code the requests as rows."""
        count = len(self.users)
        for name, given in (("prompts", self.prompts), ("lists of texts", self.texts), ("query ids", ids)):
            if len(given) != count:
                raise InputError("candidates", f"{len(given)} {name} for {count} users", "one for each request")
        if len(set(ids)) < count:
            twice = next(one for place, one in enumerate(ids) if one in ids[:place])
            raise InputError("candidates", f"query id '{twice}' twice", "each request under an id of its own")
        sizes = [len(each) for each in self.texts]
        query = np.repeat(np.arange(count), sizes)
        users = {user: code for code, user in enumerate(dict.fromkeys(self.users))}
        distinct = {text: code for code, text in enumerate(dict.fromkeys(text for each in self.texts for text in each))}
        return Candidates(
            users=tuple(users),
            queries=tuple(ids),
            inputs=tuple(self.prompts),
            texts=tuple(distinct),
            user=np.array([users[user] for user in self.users], dtype=np.int64)[query],
            query=query,
            text=np.array([distinct[text] for each in self.texts for text in each], dtype=np.int64),
            candidate=np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, dtype=np.int64),
            utility=self._utility(sizes),
            logprob=np.full(len(query), np.nan),
            history=history,
        )

    def _utility(self, sizes: list[int]) -> FloatArray:
        if self.utilities is None:
            return np.full(sum(sizes), np.nan)
        parts = [np.asarray(one, dtype=np.float64).reshape(-1) for one in self.utilities]
        if [len(one) for one in parts] != sizes:
            raise InputError("utilities", f"{[len(one) for one in parts]} numbers", f"one for each text: {sizes}")
        return np.concatenate(parts) if parts else np.zeros(0)


def _texts_of(texts: object) -> tuple[str, ...]:
    """Take texts as they are, refusing one string for a list of them."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InputError("texts", f"a value of type {type(texts).__name__}", "a list of strings for each request")
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise InputError("texts", f"a value of type {type(wrong).__name__}", "strings")
    return tuple(texts)
