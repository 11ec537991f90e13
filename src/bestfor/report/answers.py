"""Show real answers on the page and in the terminal: what each of three users gets for the same requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bestfor.report import words

if TYPE_CHECKING:
    from rich.console import Console

FILE = "answers.json"
_CELL = 90


@dataclass(frozen=True)
class GivenAnswer:
    """Answer of one user to a request.

    Attributes:
        user: who gets it.
        own: whether the request is theirs.
        text: the answer.
        reward: what the model expects of it for the one who gets it.
        owner_reward: what it expects of it for the one who asked.
        owner_utility: what it was worth to the one who asked, empty where that is not known.
        everybody: whether the model has nothing of the user's own to go by.
        same: whether it is the text that the one who asked gets.
    """

    user: str
    own: bool
    text: str
    reward: str
    owner_reward: str
    owner_utility: str
    everybody: bool
    same: bool = False

    @property
    def why(self) -> str:
        """Say why it is given, and what it was worth to the one who asked."""
        expected = f"best for {self.user}: expected {self.reward}"
        measured = f"measured {self.owner_utility}" if self.owner_utility else ""
        if self.own:
            return ", ".join(part for part in (expected, measured) if part)
        if self.same:
            return expected
        asker = ", ".join(part for part in (f"for the asker: expected {self.owner_reward}", measured) if part)
        return f"{expected}; {asker}"


@dataclass(frozen=True)
class GivenAnswers:
    """Request and what each user gets for it.

    Attributes:
        owner: who asked.
        asked: the prompt, empty where people rate bare texts.
        size: candidates.
        answers: one a user.
        said: in a sentence, whether the users get the same.
        distinct: how many different answers they get.
    """

    owner: str
    asked: str
    size: int
    answers: tuple[GivenAnswer, ...]
    said: str
    distinct: int = 1


@dataclass(frozen=True)
class AnswersSection:
    """Section of real answers.

    Attributes:
        model: that scores the candidates.
        rule: that picks one of them.
        users: who gets answers, at most three.
        requests: one of each user, answered for all of them; empty where that cannot be shown.
        reason: why not, else empty.
    """

    model: str
    rule: str
    users: tuple[str, ...]
    requests: tuple[GivenAnswers, ...]
    reason: str = ""

    @property
    def telling(self) -> tuple[GivenAnswers, ...]:
        """The requests, those first for which the users get the most different answers."""
        return tuple(sorted(self.requests, key=lambda one: -one.distinct))


def read_answers(folder: Path) -> AnswersSection | None:
    """Read the answers that a run left, those of its first fold where it has several; None where there are none."""
    path = next((one for one in (folder / FILE, folder / "fold-0" / FILE) if one.is_file()), None)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return None if found is None else _section(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a torn file is written again by the next run: the page goes without


def print_answers(section: AnswersSection, console: Console) -> None:
    """Print who gets what, a table a request."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print()
    console.print(Text(f"Who gets what: {words.clean(section.model)}, rule {section.rule}", style="bold"))
    if section.reason:
        console.print(Text(f"Not shown: {section.reason}.", style="dim"))
    for one in section.requests:
        asked = f", asked {words.clip(words.clean(one.asked), 100)}" if one.asked else ""
        console.print(Text(f"{words.clean(one.owner)}'s {one.size} candidates{asked}"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("for", no_wrap=True, max_width=16, overflow="ellipsis")
        table.add_column("answer", overflow="fold")
        for head in ("score", "score for the asker", "worth to the asker"):
            table.add_column(head, justify="right")
        for answer in one.answers:
            cells = (answer.user, words.clip(answer.text, _CELL), answer.reward, answer.owner_reward)
            table.add_row(*(Text(words.clean(cell)) for cell in (*cells, answer.owner_utility)))
        console.print(table)
        console.print(Text(one.said, style="dim"))


def _section(found: dict[str, Any]) -> AnswersSection:
    users = tuple(str(user) for user in found["users"])
    requests = tuple(_request(one) for one in found["requests"])
    return AnswersSection(str(found["model"]), str(found["rule"]), users, requests, str(found.get("reason", "")))


def _request(found: dict[str, Any]) -> GivenAnswers:
    given = found["answers"]
    values = [
        one[name] for one in given for name in ("reward", "owner_reward", "owner_utility") if one[name] is not None
    ]
    places = words.decimals(values)
    asker = next((one["candidate"] for one in given if one["user"] == found["owner"]), None)
    answers = tuple(
        GivenAnswer(
            user=str(one["user"]),
            own=one["user"] == found["owner"],
            text=str(one["text"]),
            reward=words.number(one["reward"], places),
            owner_reward=words.number(one["owner_reward"], places),
            owner_utility="" if one["owner_utility"] is None else words.number(one["owner_utility"], places),
            everybody=one["served"] != "own",
            same=one["candidate"] == asker,
        )
        for one in given
    )
    distinct = len({one["candidate"] for one in given})
    said = "All get the same answer." if distinct == 1 else f"{distinct} different answers for {len(given)} users."
    said += _unlucky(str(found["owner"]), found.get("pick"))
    return GivenAnswers(str(found["owner"]), str(found["input"]), int(found["size"]), answers, said, distinct)


def _unlucky(owner: str, pick: Mapping[str, Any] | None) -> str:
    """Say that the pick was worse for the one who asked than a random candidate; empty where it was not."""
    if pick is None or pick["utility"] >= pick["random"]:
        return ""
    return (
        f" Here the pick was unlucky for {owner}: rank {pick['rank']} of {pick['of']}, worse than a random candidate."
    )
