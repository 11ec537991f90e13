"""Write a persona and rubrics for each user by a language model, from what they wrote and liked (Ryan et al. 2025).

Of a history only texts are taken that every test query of the user sees (:meth:`History.before_tests`), so that a
persona that is written once says to no query what came later, and never quotes a test reference. Labelled candidates
are of the fit part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bestfor import rng as randomness
from bestfor.data.candidates import Candidates, History
from bestfor.endpoint import Chat
from bestfor.endpoint.chat import Answer, Message, Reading, quoted
from bestfor.progress import Progress
from bestfor.rewards.judge.personas import Persona, written_by_model
from bestfor.rewards.judge.prompts import TAGS, persona_prompt
from bestfor.rewards.judge.questions import AnswerCounts, RequestSettings, together
from bestfor.types import FloatArray, IntArray

LEAST = 40
"""Tokens below which no text is worth being cut to."""
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<persona>(.*?)</persona>.*?<rubric>(.*?)</rubric>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class MaterialLimits:
    """Limits of the material for a persona.

    Attributes:
        items: texts of a history, the latest.
        rated: best labelled candidates, and as many of the worst.
        tokens: of all these together, estimated generously: one for every three bytes.
    """

    items: int
    rated: int
    tokens: int


class RatedText(NamedTuple):
    """Labelled candidate: what was asked, the candidate, and what the user said of it."""

    given: str
    text: str
    comment: str = ""


@dataclass(frozen=True)
class PersonaMaterial:
    """Material from which a persona is written.

    Attributes:
        items: what the user wrote, oldest first.
        liked: those candidates that suited them best.
        disliked: likewise, for those that suited them least.
        rests_on: how many texts the user had written by then.
    """

    items: tuple[str, ...]
    liked: tuple[RatedText, ...]
    disliked: tuple[RatedText, ...]
    rests_on: int

    def __bool__(self) -> bool:
        return bool(self.items or self.liked)

    @property
    def texts(self) -> tuple[str, ...]:
        """The user's own and liked texts: what makes users similar."""
        return (*self.items, *(one.text for one in self.liked))

    def messages(self) -> list[Message]:
        """Build the chat for a persona."""
        sections = [
            ("What this person wrote, oldest first:", [quoted("item", text, TAGS) for text in self.items]),
            ("Texts that suited this person best:", [_rated("liked", *one) for one in self.liked]),
            ("Texts that suited this person least:", [_rated("disliked", *one) for one in self.disliked]),
        ]
        return persona_prompt([(heading, parts) for heading, parts in sections if parts])


def material(candidates: Candidates, limits: MaterialLimits) -> list[PersonaMaterial]:
    """Collect the material for each user's persona, in the order of the users.

    Args:
        candidates: labelled rows in canonical order.
        limits: how much of it.
    """
    order = np.argsort(candidates.user, kind="stable")
    ends = np.searchsorted(candidates.user[order], np.arange(len(candidates.users) + 1))
    away = centre_by_query(candidates.utility, candidates.query)
    found: list[PersonaMaterial] = []
    for code, user in enumerate(candidates.users):
        rows = order[ends[code] : ends[code + 1]]
        liked, disliked = extremes(candidates, rows, away[rows], limits.rated)
        written = () if candidates.history is None else candidates.history.before_tests(user)
        half = limits.tokens // 2 if written and limits.items else limits.tokens
        pairs = _within([*liked, *disliked], half)
        kept = _latest(written, limits, sum(map(_cost, pairs)))
        best, worst = tuple(pairs[: len(liked)]), tuple(pairs[len(liked) :])
        found.append(PersonaMaterial(kept, best, worst, len(written) if kept else 0))
    return found


def of_history(history: History, user: str, limits: MaterialLimits) -> PersonaMaterial:
    """Collect the material for a persona where there are no labels."""
    written = history.before_tests(user)
    kept = _latest(written, limits, 0)
    return PersonaMaterial(kept, (), (), len(written) if kept else 0)


def extremes(
    candidates: Candidates, rows: IntArray, away: FloatArray, count: int
) -> tuple[list[RatedText], list[RatedText]]:
    """Find the distinct texts furthest above and below the mean of their query, with input and comment.

    Args:
        candidates: the rows' tables.
        rows: shape (n,), of one user.
        away: shape (n,), utility less the query's mean.
        count: how many of each at most.
    """
    found: list[list[RatedText]] = []
    comments = candidates.comments or {}
    taken: set[int] = set()
    for sign in (1.0, -1.0):
        chosen: list[RatedText] = []
        for at in np.argsort(-sign * away, kind="stable"):
            text = int(candidates.text[rows[at]])
            if len(chosen) == count or sign * away[at] <= 1e-12:
                break
            if text not in taken:
                taken.add(text)
                query, number = int(candidates.query[rows[at]]), int(candidates.candidate[rows[at]])
                said = comments.get((candidates.queries[query], number), "")
                chosen.append(RatedText(candidates.inputs[query], candidates.texts[text], said))
        found.append(chosen)
    # One side alone says nothing: what suited best is best against something.
    return (found[0], found[1]) if found[0] and found[1] else ([], [])


def centre_by_query(utility: FloatArray, query: IntArray) -> FloatArray:
    """Subtract from utilities the mean of their query, shape (n,)."""
    return utility - (np.bincount(query, utility) / np.maximum(np.bincount(query), 1))[query]


def persona_reading() -> Reading:
    """Make a reading of answers, a persona and a rubric as ``[persona, rubric]``."""

    def read(choice: Mapping[str, Any]) -> list[str] | None:
        message = choice.get("message")
        text = message.get("content") if isinstance(message, Mapping) else None
        found = _ANSWER.search(_THOUGHT.sub("", text)) if isinstance(text, str) else None
        parts = [part.strip() for part in found.groups()] if found else []
        return parts if parts and all(parts) else None

    def fits(value: object) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) and part for part in value)

    return Reading(read, fits)


class PersonaWriter:
    """Write personas and rubrics by a language model.

    Args:
        chat: with the server.
        settings: of the requests.
        rubrics: how many per user.
        most: the longest answer, in tokens.
        temperature: of the second and further rubrics.
    """

    def __init__(self, chat: Chat, settings: RequestSettings, rubrics: int, most: int, temperature: float) -> None:
        self.counts = AnswerCounts()
        self._chat, self._settings = chat, settings
        self._rubrics, self._most, self._temperature = rubrics, most, temperature
        self._advance: Callable[[], None] = lambda: None

    def write(self, users: Sequence[str], known: Sequence[PersonaMaterial]) -> list[Persona | None]:
        """Write the users' personas, None where there is nothing to write one from or no answer is one."""
        questions = self._rubrics * sum(map(bool, known))
        with Progress(f"personas by {self._settings.model}", questions) as progress:
            self._advance = progress.advance
            return self._chat.run(lambda: together(self._persona(*one) for one in zip(users, known, strict=True)))

    def notes(self, known: Sequence[PersonaMaterial]) -> list[str]:
        """State what was written, for whom there was nothing to write from, and what failed."""
        counts = self.counts
        said = [f"personas and rubrics by {self._settings.model}: {counts.cost_note(self._chat.server.budget)}"]
        bare = sum(not one for one in known)
        if bare:
            said.append(f"{bare} of {len(known)} users have nothing that a persona could be written from")
        if counts.refused or counts.nonsense:
            what = f"{counts.refused} without an answer, {counts.nonsense} with one that is none"
            said.append(f"{counts.refused + counts.nonsense} of {counts.questions} rubrics were not written ({what})")
        return said

    async def _persona(self, user: str, known: PersonaMaterial) -> Persona | None:
        """Put together the persona of the first answer that is one, and the rubrics of all."""
        numbers = range(self._rubrics if known else 0)
        answers = await together(self._ask(user, known, number) for number in numbers)
        written = [answer.value for answer in answers if answer.value is not None]
        return written_by_model(written[0][0], [rubric for _, rubric in written]) if written else None

    async def _ask(self, user: str, known: PersonaMaterial, number: int) -> Answer:
        seed = randomness.key(self._settings.seed, "rubric", user, number) % 2**31
        fields = {"temperature": self._temperature, "seed": seed} if number else {}
        request = self._settings.request(f"the persona of user '{user}'", known.messages(), self._most, **fields)
        answer = await self._chat.ask(request, persona_reading())
        self.counts.count(answer)
        self._advance()
        return answer


def cost(text: str) -> int:
    """Estimate the tokens of a text, generously."""
    return 4 + -(-len(text.encode(errors="replace")) // 3)


def cut(text: str, tokens: int) -> str:
    """Cut a text that is longer than so many tokens to its beginning."""
    if cost(text) <= tokens:
        return text
    room = max(3 * (tokens - 5), 0)
    return text.encode(errors="replace")[:room].decode(errors="ignore") + "…"


def _within(rated: list[RatedText], tokens: int) -> list[RatedText]:
    """Cut labelled candidates to an equal share each, and their parts likewise."""
    share = tokens // max(len(rated), 1) // (3 if any(one.comment for one in rated) else 2)
    return [RatedText(*(cut(part, share) for part in one)) for one in rated] if share >= LEAST // 2 else rated[:0]


def _latest(written: tuple[str, ...], limits: MaterialLimits, used: int) -> tuple[str, ...]:
    """Choose the latest texts that fit, none of them longer than a quarter of the room; oldest first."""
    items = written[-limits.items :] if limits.items else ()
    tokens = limits.tokens - used
    kept: list[str] = []
    most = max(tokens // 4, LEAST)
    for text in reversed(items):
        short = cut(text, min(most, tokens))
        if tokens < LEAST and cost(text) > tokens:
            break
        kept.append(short)
        tokens -= cost(short)
    return tuple(reversed(kept))


def _cost(one: RatedText) -> int:
    return cost(one.given) + cost(one.text) + (cost(one.comment) if one.comment else 0)


def _rated(tag: str, given: str, text: str, comment: str) -> str:
    parts = [("asked", given), (tag, text), ("comment", comment)]
    return "\n".join(quoted(name, part, TAGS) for name, part in parts if part or name == tag)
