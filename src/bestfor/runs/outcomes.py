"""Tell what became of a pool's requests: candidates without a text, queries without candidates, and what was asked.

What was asked is kept beside the pool's parts (``asked.json``), so that candidates of a server, which cost money, are
taken over by another plan that asks for the same: where queries are taken out of the data, for one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bestfor.data.states import NO_CANDIDATES, THOUGHT_CUT, has_text, textless_note
from bestfor.errors import BestforError
from bestfor.files import write_text
from bestfor.policies.base import Policy, Resumable
from bestfor.pool import SOME, CandidatePool

_ASKED = "asked.json"
_NAMED = 5
_MOST = 0.5
"""Share of candidates beyond which a run stops where they have no text, and says so where they were cut short."""


@dataclass
class StateCounts:
    """Counts of a pool's candidates by what became of them.

    Attributes:
        refused: the server's reason, by query that has no candidates, or fewer.
        total: candidates.
        textless: states of those without a text, with counts.
        cut: texts that the limit cut short.
        blank: texts that are empty and yet stand as candidates.
    """

    refused: dict[str, str] = field(default_factory=dict)
    total: int = 0
    textless: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    blank: int = 0

    def add(self, pool: CandidatePool, key: str) -> None:
        """Count the rows of a part that is there."""
        part = pool.columns(key, ("query_id", "finish_reason", "text"))
        rows = zip(*(part[name].to_pylist() for name in part.column_names), strict=True)
        for query, reason, text in rows:
            if reason == NO_CANDIDATES:
                self.refused[query] = text
                continue
            self.total += 1
            if has_text(reason, text):
                self.cut += reason == "length"
                self.blank += not text
            else:
                self.textless[reason] += 1

    def check(self, policy: Policy, enough: int = 1) -> None:
        """Stop where most candidates have no text.

        Raises:
            BestforError: of at least ``enough`` candidates more than half have none.
        """
        if self.total >= enough and self.textless.total() > _MOST * self.total:
            raise BestforError(f"{self._textless(policy)}; what was written is kept")

    def notes(self, policy: Policy) -> list[str]:
        """Notes for a reader of the results."""
        said = [self._textless(policy)] if self.textless else []
        cut = self.cut + self.textless[THOUGHT_CUT]
        # The limit of a model on this machine is part of its run; a server's may come as a surprise.
        if isinstance(policy, Resumable) and cut > _MOST * self.total:
            limit = getattr(policy, "max_new_tokens", None)
            at = "the longest that is allowed" if limit is None else f"max_new_tokens = {limit}"
            said.append(f"{cut} of {self.total} candidates of {policy.name} were cut short at {at}: raise it")
        if self.blank:
            said.append(f"{self.blank} of {self.total} candidates of {policy.name} are empty texts")
        return said

    def _textless(self, policy: Policy) -> str:
        return textless_note(policy.name, self.textless.elements(), self.total, "max_new_tokens")


def check_pool(
    policy: Policy,
    pool: CandidatePool,
    keys: Sequence[str],
    prompts: Sequence[str],
    tell: Callable[[str], None] | None = None,
) -> None:
    """Note what a reader should know of a pool that is sampled.

    Args:
        policy: wrote the candidates.
        pool: where they are.
        keys: its parts.
        prompts: notes on the prompts, and of policies that keep them nowhere else.
        tell: called with each note.

    Raises:
        BestforError: most candidates have no text, or no query has any.
    """
    states = StateCounts()
    for key in keys:
        states.add(pool, key)
    states.check(policy)
    notes = [*prompts, *_refused_note(policy, states.refused, pool.prompts), *states.notes(policy)]
    pool.note(notes)
    if tell is not None:
        for line in notes:
            tell(f"pool: {line}")


def _refused_note(policy: Policy, refused: Mapping[str, str], prompts: Mapping[str, int]) -> list[str]:
    """Name the queries that the run goes on without, and the reasons, most frequent first."""
    if not refused:
        return []
    names = sorted(refused)
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    reasons = "; ".join(f"{n} x {reason}" for reason, n in Counter(refused.values()).most_common(3))
    return [
        f"the server of {policy.name} refuses {len(refused)} of {prompts.get('queries', '?')} queries, which have no "
        f'candidates or fewer ({shown}: {reasons}); refused = "error" in [policy] asks for them again'
    ]


def remember_asked(pool: CandidatePool, marks: Mapping[str, Mapping[str, str]]) -> None:
    """Keep what parts are asked for: by part, each query's hash of all that decides its candidates."""
    known = _read_asked(pool)
    if any(known.get(key) != dict(own) for key, own in marks.items()):
        merged = {**known, **{key: dict(own) for key, own in marks.items()}}
        write_text(pool.folder / _ASKED, json.dumps(merged, indent=0) + "\n", sync=False)


def asked_before(pool: CandidatePool, key: str, marks: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Find rows that are there for a part: its own unfinished ones, and other parts' of the same requests.

    Args:
        pool: the pool.
        key: of the part.
        marks: what it asks for.
    """
    known = _read_asked(pool)
    others = [name for name, own in known.items() if name != key and set(own.items()) & set(marks.items())]
    seen: set[tuple[str, int]] = set()
    for name in (key, *others):
        for suffix in ("", SOME):
            table = pool.read(name + suffix)
            for row in [] if table is None else table.to_pylist():
                query, place = row["query_id"], (row["query_id"], row["candidate"])
                same = query in marks and (name == key or known[name].get(query) == marks[query])
                if same and place not in seen and row["finish_reason"] != NO_CANDIDATES:
                    seen.add(place)
                    yield row


def _read_asked(pool: CandidatePool) -> dict[str, dict[str, str]]:
    # A record that cannot be read is begun anew: what it would have saved is asked for once more.
    try:
        known = json.loads((pool.folder / _ASKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and all(isinstance(own, dict) for own in known.values()) else {}
