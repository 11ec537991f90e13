"""A user as a judge sees them: a persona and rubrics, kept in one file a person can read and edit.

    user = "ann"
    persona = "..."
    rubrics = ["...", "..."]
    written = "the hash of what the model wrote"

A file whose texts no longer have this hash was edited: it is used as it stands, and never written over.

From what a user wrote and liked to a persona and rubrics, written by a language model, after Ryan et al. 2025.

Of a history only texts are shown that every test query of the user sees (:meth:`History.before_tests`), so that a
persona that is written once tells no query what came later, and never a test reference. Labelled candidates are of the
fit part.

Who is similar to whom: users by the mean embedding of what they wrote and liked.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import tomli_w

from bestfor import rng as randomness
from bestfor.artifacts import Arrays, write_bytes
from bestfor.data.candidates import Examples, History
from bestfor.encoders import Encoder
from bestfor.endpoint import Chat
from bestfor.endpoint.chat import Answer, Message, Reading, quoted
from bestfor.errors import InputError, nearest
from bestfor.rewards.features import unit_rows
from bestfor.rewards.judge.questions import TAGS, Manner, Tally, bar, describing, together
from bestfor.types import BoolArray, FloatArray, IntArray

FOLDER = "personas"
_PROFILES = "user.profiles"
_KEYS = ("user", "persona", "rubrics", "written")
_HEAD = (
    "# What the judge goes by for this user. Edit persona and rubrics as you like and run again: they are used as\n"
    "# they stand here, and this file is not written over. Leave 'written' as it is: it tells what was edited.\n"
)


@dataclass(frozen=True)
class Persona:
    """Who a user is to a judge.

    Attributes:
        persona: what the user is like, in a few sentences.
        rubrics: what makes a text right for them; each is used on its own.
        written: the hash of what the model wrote, "" where a person wrote it all.
    """

    persona: str
    rubrics: tuple[str, ...]
    written: str

    @property
    def edited(self) -> bool:
        """Whether a person changed it."""
        return self.written != digest(self.persona, self.rubrics)


@dataclass(frozen=True)
class Profile:
    """What a user is judged by.

    Attributes:
        persona: None where there was nothing to write it from, or no answer.
        shown: how many of the user's texts, oldest first, had been written when the latest one it rests on was.
        neighbours: similar users and their shares, which add up to 1.
    """

    persona: Persona | None = None
    shown: int = 0
    neighbours: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> str:
        """As it is stored."""
        own = self.persona
        values = None if own is None else [own.persona, list(own.rubrics), own.written]
        return json.dumps([values, self.shown, [list(one) for one in self.neighbours]], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The reverse of :meth:`to_json`.

        Raises:
            TypeError, ValueError: it is none.
        """
        values, shown, neighbours = json.loads(text)
        own = None
        if values is not None:
            persona, rubrics, written = values
            own = Persona(str(persona), tuple(str(one) for one in rubrics), str(written))
        return cls(own, int(shown), tuple((str(name), float(share)) for name, share in neighbours))


def packed(profiles: Mapping[str, Profile], users: Sequence[str]) -> Arrays:
    """Profiles as an array of bytes of which each user's part is read alone."""
    texts = [profiles[user].to_json().encode() for user in users]
    ends = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
    return {_PROFILES: np.frombuffer(b"".join(texts), dtype=np.uint8), f"{_PROFILES}.ends": ends}


def unpacked(arrays: Arrays, users: Sequence[str]) -> dict[str, Profile]:
    """The reverse of :func:`packed`.

    Raises:
        KeyError, TypeError, ValueError: they are no profiles of these users.
    """
    payload, ends = arrays[_PROFILES].tobytes(), arrays[f"{_PROFILES}.ends"].tolist()
    if len(ends) != len(users) + 1 or ends[-1] != len(payload):
        raise ValueError(f"{len(ends) - 1} profiles of {len(users)} users")
    parts = [payload[start:end].decode() for start, end in pairwise(ends)]
    return {user: Profile.from_json(part) for user, part in zip(users, parts, strict=True)}


def written_by_model(persona: str, rubrics: Iterable[str]) -> Persona:
    """A persona as a model wrote it."""
    persona, rubrics = _clean(persona), tuple(_clean(one) for one in rubrics)
    return Persona(persona, rubrics, digest(persona, rubrics))


def digest(persona: str, rubrics: Iterable[str]) -> str:
    """A hash of the texts."""
    return hashlib.sha256(json.dumps([persona, list(rubrics)]).encode()).hexdigest()


def file_name(user: str) -> str:
    """The name of a user's file: the id, percent-encoded; with a hash where it is long or has capitals.

    Some file systems do not tell ``Ann`` from ``ann``.
    """
    name = quote(user, safe="")
    if user == user.lower() and len(name) <= 100:
        return f"{name}.toml"
    return f"{name[:80]}-{hashlib.sha256(user.encode()).hexdigest()[:12]}.toml"


def read_edited(folder: Path, users: Iterable[str] | None = None) -> dict[str, Persona]:
    """Personas that a person edited or wrote, by user.

    Args:
        folder: where the files lie; need not be there.
        users: whose files are looked at, None for all.

    Raises:
        InputError: a file that is not what it should be; file, found and expected are named.
    """
    paths = sorted(folder.glob("*.toml")) if users is None else [folder / file_name(user) for user in users]
    found: dict[str, Persona] = {}
    for path in paths:
        if path.is_file():
            user, persona = _read(path)
            if persona.edited:
                found[user] = persona
    return found


def write_files(folder: Path, personas: Mapping[str, Persona]) -> None:
    """Write a file for each user, and remove those of others; edited ones stay.

    Args:
        folder: made where it is not there.
        personas: by user; what a file there says otherwise has been taken from it before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = read_edited(folder)
    names = {file_name(user) for user in (*personas, *kept)}
    for path in folder.glob("*.toml"):
        if path.name not in names:
            path.unlink()
    for user, persona in personas.items():
        path = folder / file_name(user)
        content = _content(user, persona)
        if user not in kept and not (path.is_file() and path.read_bytes() == content):
            write_bytes(path, content)


def _content(user: str, persona: Persona) -> bytes:
    texts = {"persona": f"{persona.persona}\n", "rubrics": [f"{one}\n" for one in persona.rubrics]}
    values = {**texts, "written": persona.written}
    # an id in one line, since lines of their own would lose its kind of line end
    return (_HEAD + tomli_w.dumps({"user": user}) + tomli_w.dumps(values, multiline_strings=True)).encode()


def _read(path: Path) -> tuple[str, Persona]:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"what is not TOML ({error})", "the persona of a user") from None
    for key in values:
        if key not in _KEYS:
            raise InputError(str(path), f"unknown key '{key}'", nearest(key, _KEYS))
    rubrics = values.get("rubrics")
    for key in ("user", "persona"):
        # ids are what they are, a blank among them
        if not isinstance(values.get(key), str) or (key == "persona" and not values[key].strip()):
            raise InputError(f"{path}, {key}", "no text", "a text")
    if not isinstance(rubrics, list) or not rubrics or not all(isinstance(one, str) and one.strip() for one in rubrics):
        raise InputError(f"{path}, rubrics", "no list of texts", "one text or more, each a rubric")
    if path.name != file_name(values["user"]):
        raise InputError(
            f"{path}, user", f"'{values['user']}'", f"another name for the file: {file_name(values['user'])}"
        )
    return values["user"], Persona(
        _clean(values["persona"]), tuple(_clean(one) for one in rubrics), str(values.get("written", ""))
    )


def _clean(text: str) -> str:
    """A text as it survives a file: no half characters, one kind of line end, no blanks around it."""
    whole = text.encode(errors="replace").decode()
    return "\n".join(whole.splitlines()).strip()


LEAST = 40
"""Tokens below which no text is worth being cut to."""
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<persona>(.*?)</persona>.*?<rubric>(.*?)</rubric>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """How much is shown.

    Attributes:
        items: texts of a history, the latest.
        rated: best labelled candidates, and as many of the worst.
        tokens: of all these together, estimated generously: one for every three bytes.
    """

    items: int
    rated: int
    tokens: int


@dataclass(frozen=True)
class Material:
    """What a persona is written from.

    Attributes:
        items: what the user wrote, oldest first.
        liked: what they were asked and the candidate, for those that suited them best.
        disliked: likewise, for those that suited them least.
        shown: how many texts the user had written by then.
    """

    items: tuple[str, ...]
    liked: tuple[tuple[str, str], ...]
    disliked: tuple[tuple[str, str], ...]
    shown: int

    def __bool__(self) -> bool:
        return bool(self.items or self.liked)

    @property
    def texts(self) -> tuple[str, ...]:
        """The user's own and liked texts: what makes users similar."""
        return (*self.items, *(text for _, text in self.liked))

    def messages(self) -> list[Message]:
        """The chat that asks for a persona."""
        sections = [
            ("What this person wrote, oldest first:", [quoted("item", text, TAGS) for text in self.items]),
            ("Texts that suited this person best:", [_rated("liked", *one) for one in self.liked]),
            ("Texts that suited this person least:", [_rated("disliked", *one) for one in self.disliked]),
        ]
        return describing([(heading, parts) for heading, parts in sections if parts])


def material(examples: Examples, limits: Shown) -> list[Material]:
    """What each user's persona is written from, in the order of the users.

    Args:
        examples: labelled rows in canonical order.
        limits: how much is shown.
    """
    order = np.argsort(examples.user, kind="stable")
    ends = np.searchsorted(examples.user[order], np.arange(len(examples.users) + 1))
    away = away_from_query(examples.utility, examples.query)
    found: list[Material] = []
    for code, user in enumerate(examples.users):
        rows = order[ends[code] : ends[code + 1]]
        liked, disliked = extremes(examples, rows, away[rows], limits.rated)
        written = () if examples.history is None else examples.history.before_tests(user)
        half = limits.tokens // 2 if written and limits.items else limits.tokens
        pairs = _within([*liked, *disliked], half)
        kept = _latest(written, limits, sum(cost(asked) + cost(text) for asked, text in pairs))
        best, worst = tuple(pairs[: len(liked)]), tuple(pairs[len(liked) :])
        found.append(Material(kept, best, worst, len(written) if kept else 0))
    return found


def of_history(history: History, user: str, limits: Shown) -> Material:
    """What a persona is written from where there are no labels."""
    written = history.before_tests(user)
    kept = _latest(written, limits, 0)
    return Material(kept, (), (), len(written) if kept else 0)


def extremes(
    examples: Examples, rows: IntArray, away: FloatArray, count: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The distinct texts furthest above and below the mean of their query, with what was asked.

    Args:
        examples: the rows' tables.
        rows: shape (n,), of one user.
        away: shape (n,), utility less the query's mean.
        count: how many of each at most.
    """
    found: list[list[tuple[str, str]]] = []
    taken: set[int] = set()
    for sign in (1.0, -1.0):
        chosen: list[tuple[str, str]] = []
        for at in np.argsort(-sign * away, kind="stable"):
            text = int(examples.text[rows[at]])
            if len(chosen) == count or sign * away[at] <= 1e-12:
                break
            if text not in taken:
                taken.add(text)
                chosen.append((examples.inputs[examples.query[rows[at]]], examples.texts[text]))
        found.append(chosen)
    # One side alone says nothing: what suited best is best against something.
    return (found[0], found[1]) if found[0] and found[1] else ([], [])


def away_from_query(utility: FloatArray, query: IntArray) -> FloatArray:
    """Utilities less the mean of their query, shape (n,)."""
    return utility - (np.bincount(query, utility) / np.maximum(np.bincount(query), 1))[query]


def persona_reading() -> Reading:
    """Reads a persona and a rubric as ``[persona, rubric]``."""

    def read(choice: Mapping[str, Any]) -> list[str] | None:
        message = choice.get("message")
        text = message.get("content") if isinstance(message, Mapping) else None
        found = _ANSWER.search(_THOUGHT.sub("", text)) if isinstance(text, str) else None
        parts = [part.strip() for part in found.groups()] if found else []
        return parts if parts and all(parts) else None

    def fits(value: object) -> bool:
        return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) and part for part in value)

    return Reading(read, fits)


class Author:
    """Writes personas and rubrics.

    Args:
        chat: asks the server.
        manner: how.
        rubrics: how many per user.
        most: the longest answer, in tokens.
        temperature: of the second and further rubrics.
    """

    def __init__(self, chat: Chat, manner: Manner, rubrics: int, most: int, temperature: float) -> None:
        self.tally = Tally()
        self._chat, self._manner = chat, manner
        self._rubrics, self._most, self._temperature = rubrics, most, temperature
        self._advance: Callable[[], None] = lambda: None

    def write(self, users: Sequence[str], known: Sequence[Material]) -> list[Persona | None]:
        """The users' personas, None where there is nothing to write one from or no answer is one."""
        questions = self._rubrics * sum(map(bool, known))
        with bar(f"personas by {self._manner.model}", questions) as self._advance:
            return self._chat.run(lambda: together(self._persona(*one) for one in zip(users, known, strict=True)))

    def notes(self, known: Sequence[Material]) -> list[str]:
        """What was written, from what it could not be, and what was not."""
        tally = self.tally
        said = [f"personas and rubrics by {self._manner.model}: {tally.told(self._chat.server.budget)}"]
        bare = sum(not one for one in known)
        if bare:
            said.append(f"{bare} of {len(known)} users have nothing that a persona could be written from")
        if tally.refused or tally.nonsense:
            what = f"{tally.refused} without an answer, {tally.nonsense} with one that is none"
            said.append(f"{tally.refused + tally.nonsense} of {tally.asked} rubrics were not written ({what})")
        return said

    async def _persona(self, user: str, known: Material) -> Persona | None:
        """The persona of the first answer that is one, and the rubrics of all."""
        numbers = range(self._rubrics if known else 0)
        answers = await together(self._ask(user, known, number) for number in numbers)
        written = [answer.value for answer in answers if answer.value is not None]
        return written_by_model(written[0][0], [rubric for _, rubric in written]) if written else None

    async def _ask(self, user: str, known: Material, number: int) -> Answer:
        seed = randomness.key(self._manner.seed, "rubric", user, number) % 2**31
        fields = {"temperature": self._temperature, "seed": seed} if number else {}
        request = self._manner.request(f"the persona of user '{user}'", known.messages(), self._most, **fields)
        answer = await self._chat.ask(request, persona_reading())
        self.tally.count(answer)
        self._advance()
        return answer


def cost(text: str) -> int:
    """Tokens of a text, estimated generously."""
    return 4 + -(-len(text.encode(errors="replace")) // 3)


def cut(text: str, tokens: int) -> str:
    """The beginning of a text that is longer than so many tokens."""
    if cost(text) <= tokens:
        return text
    room = max(3 * (tokens - 5), 0)
    return text.encode(errors="replace")[:room].decode(errors="ignore") + "…"


def _within(pairs: list[tuple[str, str]], tokens: int) -> list[tuple[str, str]]:
    """Pairs cut to an equal share each."""
    share = tokens // max(len(pairs), 1) // 2
    return [(cut(asked, share), cut(text, share)) for asked, text in pairs] if share >= LEAST // 2 else pairs[:0]


def _latest(written: tuple[str, ...], limits: Shown, used: int) -> tuple[str, ...]:
    """The latest texts that fit, none of them longer than a quarter of the room; oldest first."""
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


def _rated(tag: str, asked: str, text: str) -> str:
    return "\n".join([*([quoted("asked", asked, TAGS)] if asked else []), quoted(tag, text, TAGS)])


_BLOCK = 1024


def user_vectors(texts: Sequence[Sequence[str]], encoder: Encoder) -> FloatArray:
    """A vector of unit length for each user, zeros where there are no texts; shape (users, dim).

    Args:
        texts: of each user.
        encoder: of texts.
    """
    names = sorted({text for own in texts for text in own})
    vectors = np.zeros((len(texts), encoder.dim))
    if not names:
        return vectors
    place = {name: code for code, name in enumerate(names)}
    known = unit_rows(encoder.encode(names).astype(np.float64))
    for user, own in enumerate(texts):
        if own:
            vectors[user] = known[[place[text] for text in own]].mean(axis=0)
    return unit_rows(vectors)


def nearest_users(vectors: FloatArray, able: BoolArray, count: int) -> list[list[tuple[int, float]]]:
    """The nearest other users of each, with shares in proportion to their cosines that add up to 1.

    Args:
        vectors: shape (users, dim), unit length or zero.
        able: shape (users,), who can be somebody's neighbour.
        count: how many at most; only those with a positive cosine.
    """
    found: list[list[tuple[int, float]]] = []
    for start in range(0, len(vectors), _BLOCK):
        # Rounded, so that who is nearest does not depend on the last bits of a product.
        cosines = np.round(vectors[start : start + _BLOCK] @ vectors.T, 9)
        cosines[:, ~able] = 0.0
        own = np.arange(len(cosines))
        cosines[own, start + own] = 0.0
        for row in cosines:
            chosen = [int(code) for code in np.argsort(-row, kind="stable")[:count] if row[code] > 0]
            total = float(row[chosen].sum())
            found.append([(code, round(float(row[code]) / total, 9)) for code in chosen])
    return found
