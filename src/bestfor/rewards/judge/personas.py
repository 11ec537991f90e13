"""Keep personas and rubrics by user, in one file each that a person can read and edit.

    user = "ann"
    persona = "..."
    rubrics = ["...", "..."]
    written = "the hash of what the model wrote"

A file whose texts no longer have this hash was edited: it is used as it stands, and never written over.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import tomli_w

from bestfor.artifacts import Arrays
from bestfor.errors import InputError, nearest
from bestfor.files import hash_json, hash_text, write_bytes

FOLDER = "personas"
_PROFILES = "user.profiles"
_KEYS = ("user", "persona", "rubrics", "written")
_HEAD = (
    "# What the judge goes by for this user. Edit persona and rubrics as you like and run again: they are used as\n"
    "# they stand here, and this file is not written over. Leave 'written' as it is: it tells what was edited.\n"
)


@dataclass(frozen=True)
class Persona:
    """Description of a user and rubrics by which to judge for them.

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
        """True where a person changed it."""
        return self.written != digest(self.persona, self.rubrics)


@dataclass(frozen=True)
class Profile:
    """Persona of a user, what it rests on, and similar users.

    Attributes:
        persona: None where there was nothing to write it from, or no answer.
        rests_on: how many of the user's texts, oldest first, had been written when the latest one it rests on was.
        neighbours: similar users and their shares, which add up to 1.
    """

    persona: Persona | None = None
    rests_on: int = 0
    neighbours: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> str:
        """Serialise to what is stored."""
        own = self.persona
        values = None if own is None else [own.persona, list(own.rubrics), own.written]
        return json.dumps([values, self.rests_on, [list(one) for one in self.neighbours]], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """Read what :meth:`to_json` gave.

        Raises:
            TypeError, ValueError: it is none.
        """
        values, rests_on, neighbours = json.loads(text)
        own = None
        if values is not None:
            persona, rubrics, written = values
            own = Persona(str(persona), tuple(str(one) for one in rubrics), str(written))
        return cls(own, int(rests_on), tuple((str(name), float(share)) for name, share in neighbours))


def pack_profiles(profiles: Mapping[str, Profile], users: Sequence[str]) -> Arrays:
    """Pack profiles to an array of bytes of which each user's part is read alone."""
    texts = [profiles[user].to_json().encode() for user in users]
    ends = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
    return {_PROFILES: np.frombuffer(b"".join(texts), dtype=np.uint8), f"{_PROFILES}.ends": ends}


def unpack_profiles(arrays: Arrays, users: Sequence[str]) -> dict[str, Profile]:
    """Unpack what :func:`pack_profiles` gave.

    Raises:
        KeyError, TypeError, ValueError: they are no profiles of these users.
    """
    payload, ends = arrays[_PROFILES].tobytes(), arrays[f"{_PROFILES}.ends"].tolist()
    if len(ends) != len(users) + 1 or ends[-1] != len(payload):
        raise ValueError(f"{len(ends) - 1} profiles of {len(users)} users")
    parts = [payload[start:end].decode() for start, end in pairwise(ends)]
    return {user: Profile.from_json(part) for user, part in zip(users, parts, strict=True)}


def written_by_model(persona: str, rubrics: Iterable[str]) -> Persona:
    """Make a persona of what a model wrote."""
    persona, rubrics = _clean(persona), tuple(_clean(one) for one in rubrics)
    return Persona(persona, rubrics, digest(persona, rubrics))


def digest(persona: str, rubrics: Iterable[str]) -> str:
    """Hash the texts."""
    return hash_json([persona, list(rubrics)])


def file_name(user: str) -> str:
    """Name a user's file: the id, percent-encoded; with a hash where it is long or has capitals.

    Some file systems do not tell ``Ann`` from ``ann``.
    """
    name = quote(user, safe="")
    if user == user.lower() and len(name) <= 100:
        return f"{name}.toml"
    return f"{name[:80]}-{hash_text(user)[:12]}.toml"


def read_edited(folder: Path, users: Iterable[str] | None = None) -> dict[str, Persona]:
    """Read the personas that a person edited or wrote, by user.

    Args:
        folder: where the files lie; need not be there.
        users: whose files are looked at, None for all.

    Raises:
        InputError: a file that is not what it should be; file, found and expected are named.
    """
    paths = sorted(folder.glob("*.toml")) if users is None else [folder / file_name(user) for user in users]
    found: dict[str, Persona] = {}
    for path in paths:
        with suppress(FileNotFoundError):  # nobody's, or of a model that has been replaced meanwhile
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
            path.unlink(missing_ok=True)
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
    """Bring a text to the form that survives a file: no half characters, one kind of line end, no blanks around it."""
    whole = text.encode(errors="replace").decode()
    return "\n".join(whole.splitlines()).strip()
