"""Queue the questions about candidates, ask them side by side, and count what the answers were.

A question is about one candidate, or a pair of them, and one rubric. Thousands are waiting at once, and the
server's concurrency says how many of them are sent; what was answered before an error is kept.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from bestfor import rng as randomness
from bestfor.data.candidates import Candidates
from bestfor.data.chunks import chunks_of
from bestfor.endpoint import Budget, Chat
from bestfor.endpoint.chat import Answer, Message, Reading, Request
from bestfor.metrics.judge import count_missing, why_missing
from bestfor.metrics.score_tokens import score_reading
from bestfor.progress import Progress
from bestfor.rewards.judge.personas import Profile
from bestfor.rewards.judge.prompts import GENERAL, WeightedRubric, compare_prompt, score_prompt
from bestfor.rewards.judge.tournament import Pair, most_questions, play, usual_rounds
from bestfor.types import FloatArray, IntArray

T = TypeVar("T")
_TOGETHER = 4096
"""About how many questions are under way at once; the server's own limit is its concurrency."""


@dataclass(frozen=True)
class JudgedQuery:
    """Candidates of one query and the rubrics by which they are judged.

    Attributes:
        query: its id.
        given: its input.
        texts: distinct candidates, in an order of their own.
        rubrics: by what; their weights add up to 1.
    """

    query: str
    given: str
    texts: tuple[str, ...]
    rubrics: tuple[WeightedRubric, ...]


@dataclass(frozen=True)
class RequestQueue:
    """Queries to be judged, and the rows that each answers.

    Attributes:
        queries: one for each user and query.
        places: for each, its rows and which of its texts stands in each of them.
        notes: who was judged by what, in plain sentences.
    """

    queries: list[JudgedQuery]
    places: list[tuple[IntArray, IntArray]]
    notes: list[str]


def queue_requests(candidates: Candidates, profiles: Mapping[str, Profile], share: float) -> RequestQueue:
    """Queue candidates with the rubrics by which they are judged.

    Args:
        candidates: the rows.
        profiles: by user; others, and queries from before a persona's texts, are judged by the general rubric.
        share: weight of all neighbours together.
    """
    pair = candidates.user * len(candidates.queries) + candidates.query
    order = np.argsort(pair, kind="stable")
    _, starts = np.unique(pair[order], return_index=True)
    seen = {} if candidates.history is None else candidates.history.seen
    queued: list[JudgedQuery] = []
    places: list[tuple[IntArray, IntArray]] = []
    early = 0
    for rows in np.split(order, starts[1:]):
        user, code = candidates.users[candidates.user[rows[0]]], int(candidates.query[rows[0]])
        query, profile = candidates.queries[code], profiles.get(user, Profile())
        late = profile.persona is not None and seen.get(query, profile.rests_on) < profile.rests_on
        early += late
        own = [candidates.texts[one] for one in candidates.text[rows]]
        place = {text: at for at, text in enumerate(sorted(set(own)))}
        used = (GENERAL,) if late else rubrics_of(profile, profiles, share)
        queued.append(JudgedQuery(query, candidates.inputs[code], tuple(place), used))
        places.append((rows, np.array([place[text] for text in own])))
    notes = _user_notes(candidates, profiles)
    if early:
        said = "came before texts that the persona rests on: judged by the general rubric"
        notes.append(f"{early} of {len(queued)} queries {said}")
    return RequestQueue(queued, places, notes)


def rubrics_of(profile: Profile, profiles: Mapping[str, Profile], share: float) -> tuple[WeightedRubric, ...]:
    """Weigh the user's own rubrics and their neighbours' first ones, with weights that add up to 1."""
    own = profile.persona
    if own is None:
        return (GENERAL,)
    known = ((profiles.get(name, Profile()).persona, part) for name, part in profile.neighbours)
    near = [(persona, part) for persona, part in known if persona is not None]
    total, lent = sum(part for _, part in near), share if near else 0.0
    found = [WeightedRubric(own.persona, rubric, (1 - lent) / len(own.rubrics)) for rubric in own.rubrics]
    found += [WeightedRubric(one.persona, one.rubrics[0], lent * part / total) for one, part in near]
    return tuple(found)


def _user_notes(candidates: Candidates, profiles: Mapping[str, Profile]) -> list[str]:
    present = [candidates.users[code] for code in np.unique(candidates.user)]
    known = [profiles[user].persona for user in present if user in profiles]
    bare, edited = sum(one is None for one in known), sum(one is not None and one.edited for one in known)
    said: list[str] = []
    if bare:
        said.append(f"{bare} of {len(present)} users have no persona: judged by the general rubric")
    if edited:
        said.append(f"{edited} of {len(present)} users were judged by a persona that a person edited")
    return said


@dataclass(frozen=True)
class RequestSettings:
    """Settings of a judge's requests.

    Attributes:
        model: the name under which the server knows the model.
        identity: names what judges, for the cache.
        logprobs: whether to take expectations over score tokens.
        max_tokens: the longest answer.
        extra_body: further fields of every request.
        scale: the lowest and the highest score; of no use to a tournament.
        rounds: of a tournament; 0 scores each text on its own, None plays the usual number of rounds.
        seed: of who meets whom first.
    """

    model: str
    identity: str
    logprobs: bool = True
    max_tokens: int = 16
    extra_body: dict[str, Any] = field(default_factory=dict)
    scale: tuple[int, int] = (1, 5)
    rounds: int | None = 0
    seed: int = 0

    def request(self, who: str, messages: list[Message], most: int, **fields: object) -> Request:
        """Build a question as it goes to the server."""
        body = {"model": self.model, "messages": messages, "temperature": 0, **fields, **self.extra_body}
        return Request(who, body, most, self.identity)


@dataclass
class AnswerCounts:
    """Counts of questions and their answers, those of an earlier call among them.

    Attributes:
        questions: how many.
        refused: without an answer.
        nonsense: with an answer that says nothing of what was asked.
        read: answers read as a number, because there were no probabilities.
        mass: the sum of missing mass over the answers that are expectations.
        prompt: tokens of the prompts of the answers, whenever they were paid for.
        completion: tokens of the answers, likewise.
        causes: why there was no answer, or none with a text, with counts.
        said: how nonsense begins, with counts.
    """

    questions: int = 0
    refused: int = 0
    nonsense: int = 0
    read: int = 0
    mass: float = 0.0
    prompt: int = 0
    completion: int = 0
    causes: Counter[str] = field(default_factory=Counter, compare=False)
    said: Counter[str] = field(default_factory=Counter, compare=False)

    def count(self, answer: Answer) -> None:
        """Add an answer."""
        self.questions += 1
        self.refused += answer.refused
        self.nonsense += answer.value is None and not answer.refused
        self.prompt += answer.prompt
        self.completion += answer.completion
        if answer.value is None:
            count_missing(answer, self.causes, self.said)

    def count_score(self, answer: Answer) -> None:
        """Add an answer that is to be a score."""
        self.count(answer)
        if answer.value is not None:
            missing = answer.value[1]
            self.read += missing is None
            self.mass += missing or 0.0

    def cost_note(self, budget: Budget) -> str:
        """State what the answers took, in tokens and at the budget's prices."""
        answers = self.questions - self.refused
        cost = f", cost {budget.cost(self.prompt, self.completion):.4f}" if budget.priced else ""
        return f"{answers} answer{'s'[: answers != 1]}, {self.prompt} + {self.completion} tokens{cost}"

    def notes(self, model: str, wanted: bool) -> list[str]:
        """Write notes for a reader of scores.

        Args:
            model: who judged.
            wanted: whether probabilities were wanted.
        """
        said: list[str] = []
        if self.refused or self.nonsense:
            what = f"{self.refused} without an answer, {self.nonsense} with one that is no score"
            said.append(
                f"{self.refused + self.nonsense} of {self.questions} questions to {model} gave nothing ({what})"
                + why_missing(self.causes, self.said)
            )
        if self.read and wanted:
            said.append(f"{self.read} answers of {model} are the number it wrote: it gave no probabilities")
        weighed = self.questions - self.refused - self.nonsense - self.read
        if weighed and self.mass / weighed > 0.05:
            said.append(f"{model} puts {self.mass / weighed:.2f} of its probability on what is no score")
        return said


class CandidateScorer:
    """Score candidates by questions to a judge's server.

    Args:
        chat: with the server.
        settings: of the requests.
    """

    def __init__(self, chat: Chat, settings: RequestSettings) -> None:
        self.counts = AnswerCounts()
        self._chat, self._settings = chat, settings
        self._advance: Callable[[], None] = lambda: None

    def score(self, queries: Sequence[JudgedQuery]) -> list[FloatArray]:
        """Compute the reward of each text of each query, NaN where a rubric that counts has no answer for it."""
        questions = sum(self._questions(one) for one in queries)
        with Progress(f"judged by {self._settings.model}", questions) as progress:
            self._advance = progress.advance
            return self._chat.run(lambda: self._score_all(queries))

    def _questions(self, query: JudgedQuery) -> int:
        """Count the questions that there will be; of a tournament the most."""
        players, rounds = len(query.texts), self._settings.rounds
        each = players if rounds == 0 else most_questions(players, rounds)
        return each * len(query.rubrics)

    async def _score_all(self, queries: Sequence[JudgedQuery]) -> list[FloatArray]:
        found: list[FloatArray] = []
        for block in blocks(queries):
            found += await together(self._query(one) for one in block)
        return found

    async def _query(self, query: JudgedQuery) -> FloatArray:
        method = self._scores if self._settings.rounds == 0 else self._strengths
        each = await together(method(query, rubric) for rubric in query.rubrics)
        weights = np.array([rubric.weight for rubric in query.rubrics])
        # A candidate that one rubric says nothing about has no mean that could be compared with the others'.
        return weights @ np.array(each)

    async def _scores(self, query: JudgedQuery, rubric: WeightedRubric) -> FloatArray:
        scale = self._settings.scale
        reading = score_reading(*scale)
        chats = [score_prompt(rubric, query.given, text, scale) for text in query.texts]
        return np.array(await together(self._score(query, chat, reading) for chat in chats))

    async def _strengths(self, query: JudgedQuery, rubric: WeightedRubric) -> FloatArray:
        players, rounds = len(query.texts), self._settings.rounds
        order = randomness.derive(self._settings.seed, "tournament", query.query).permutation(players)
        compare = partial(self._compare, query, rubric)
        return await play(players, rounds or usual_rounds(players), compare, order)

    async def _compare(self, query: JudgedQuery, rubric: WeightedRubric, pairs: Sequence[Pair]) -> Sequence[float]:
        reading = score_reading(1, 2)
        orders = [order for one, other in pairs for order in ((one, other), (other, one))]
        chats = [compare_prompt(rubric, query.given, query.texts[one], query.texts[other]) for one, other in orders]
        second = np.array(await together(self._score(query, chat, reading) for chat in chats)).reshape(-1, 2) - 1
        return ((1 - second[:, 0] + second[:, 1]) / 2).tolist()

    async def _score(self, query: JudgedQuery, messages: list[Message], reading: Reading) -> float:
        settings = self._settings
        fields = {"logprobs": True, "top_logprobs": 20} if settings.logprobs else {}
        request = settings.request(f"the judge of query '{query.query}'", messages, settings.max_tokens, **fields)
        answer = await self._chat.ask(request, reading)
        self.counts.count_score(answer)
        self._advance()
        return math.nan if answer.value is None else answer.value[0]


def blocks(queries: Sequence[JudgedQuery]) -> list[list[JudgedQuery]]:
    """Group queries in blocks of about as many questions as may wait at once."""
    return chunks_of(queries, lambda query: len(query.texts) * len(query.rubrics), _TOGETHER)


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Await all results in order, or the first error after all have ended: what was answered meanwhile is kept."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    found: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        found.append(outcome)
    return found
