"""Protocols of policies: prompts in, n candidates for each of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bestfor.errors import BestforError
from bestfor.lm.chat import Message


@dataclass(frozen=True)
class Prompt:
    """Request to a policy: messages of one query.

    Attributes:
        query_id: names the query; the noise of its candidates is keyed by it.
        messages: the chat, in order.
        user_id: whose query it is; policies that write differently for each user need it.
    """

    query_id: str
    messages: tuple[Message, ...]
    user_id: str = ""


@dataclass(frozen=True)
class Sampled:
    """Candidate as a policy wrote it.

    Attributes:
        text: the candidate.
        tokens: how many tokens were sampled, the end token included.
        logprob: the sum of their log-probabilities in nats under the model itself (temperature 1, nothing cut off),
            None where the policy does not know it.
        finish_reason: ``stop`` where the policy ended the text, ``length`` where the limit did; a state of
            :mod:`bestfor.data.states` where there is no text; tables and endpoints may say more.
    """

    text: str
    tokens: int
    logprob: float | None
    finish_reason: str


@runtime_checkable
class Policy(Protocol):
    """Policy: a writer of candidates.

    A class may further say ``tables = (...)``, which are those within ``[policy]`` that it takes (``endpoint``,
    ``adapters``), and have a class method ``from_table(table)`` that makes it from a run's table. One that says
    ``processes = True`` can be sent to other processes and writes the same there.
    """

    @property
    def name(self) -> str:
        """Name in the column ``policy`` of the candidates."""
        ...

    @property
    def chunk(self) -> int:
        """Number of queries, neighbours in the sorted order of their ids, that are sampled together."""
        ...

    @property
    def signature(self) -> dict[str, str | int | float]:
        """Plain values of all that decides what the policy writes; pools are keyed by it."""
        ...

    def sample(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[list[Sampled]]:
        """Write n candidates for every prompt.

        Args:
            prompts: what is asked, with distinct query ids.
            n: candidates for each prompt.
            seed: the run's seed.

        Returns:
            One list of n candidates for each prompt, in the order of the prompts.
        """
        ...


@runtime_checkable
class Budgeted(Protocol):
    """Policy that knows how long a chat may be, so that items which find no room are left out beforehand."""

    @property
    def budget(self) -> int | None:
        """The most tokens of a chat, None where there is no limit."""
        ...

    def count(self, messages: list[Message]) -> int:
        """Count the tokens of a chat as the model reads it."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """Policy that may fail halfway and go on with what is owed: one that asks a server.

    Its :meth:`complete` is called from several threads at once.
    """

    @property
    def name(self) -> str:
        """Name in the column ``policy`` of the candidates."""
        ...

    @property
    def parallel(self) -> int:
        """Number of chunks that are worth asking for at once."""
        ...

    def interrupt(self) -> None:
        """End the calls under way: they raise with what they have."""
        ...

    def complete(
        self, prompts: Sequence[Prompt], n: int, *, seed: int, have: Sequence[Mapping[int, Sampled]]
    ) -> list[list[Sampled]]:
        """Write what is owed beside candidates that are there already, given by their index below n.

        Returns:
            One list of n candidates for each prompt.

        Raises:
            UnfinishedError: some could not be had; it holds the others.
        """
        ...


class UnfinishedError(BestforError):
    """Error of candidates that could not be had.

    Attributes:
        written: for each prompt what is there, by the candidate's index.
        reason: why the rest is not.
        hopeless: whether other prompts will fare no better for now.
        refused: why, for the queries whose prompts will be refused whenever they are asked, by id.
    """

    def __init__(
        self,
        written: Sequence[Mapping[int, Sampled]],
        reason: str,
        *,
        hopeless: bool,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.written, self.reason, self.hopeless = written, reason, hopeless
        self.refused = dict(refused or {})
