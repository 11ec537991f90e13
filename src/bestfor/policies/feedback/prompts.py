"""Word the prompts to a model that reviews its own drafts: critique, advice and revision, in our own words.

A chat keeps to its budget by leaving out whole earlier turns of the request, the furthest from the query first; what
does not fit even so is left out. Nothing is cut within.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bestfor.files import hash_text
from bestfor.lm.chat import Message
from bestfor.policies.base import Budgeted, Policy

REVIEWER = "You review drafts that were written for one reader. You explain, and you do not write the text yourself."
CONTRAST = (
    "{request}\n\nDraft A, which this reader likes best:\n{best}\n\n"
    "Draft B, which this reader likes least:\n{worst}\n\n"
    "In a few sentences: what does A do better than B for this reader, and where does A itself fall short? Speak of "
    "the drafts' features, not of scores."
)
ALONE = (
    "{request}\n\nA draft:\n{best}\n\n"
    "In a few sentences: what does the draft do well for this reader, and where does it fall short?"
)
ADVICE = (
    "{request}\n\nA draft:\n{best}\n\nA review of it:\n{critique}\n\n"
    "Turn the review into advice: the changes that would make the draft better for this reader, one a line, the most "
    "important first. Do not write the new draft."
)
REVISION = (
    "A reviewer advises on your answer:\n{advice}\n\n"
    "Answer the request again and follow the advice. Give the new answer only, in the form that was asked for."
)
DIGEST = hash_text("\x1f".join((REVIEWER, CONTRAST, ALONE, ADVICE, REVISION)))[:16]
"""Stands for these words in a policy's signature."""

Make = Callable[[Sequence[Message]], list[Message]]
"""Makes a chat of the messages of a request."""


@dataclass(frozen=True)
class FittingChat:
    """Chat that fits its model.

    Attributes:
        messages: the chat.
        dropped: turns of the request that were left out.
    """

    messages: tuple[Message, ...]
    dropped: int


def critique(best: str, worst: str | None) -> Make:
    """Ask what the better of two drafts does better (the textual loss), or about the one where ``worst`` is None."""
    if worst is None:
        return lambda request: _review(ALONE.format(request=_as_text(request), best=best))
    return lambda request: _review(CONTRAST.format(request=_as_text(request), best=best, worst=worst))


def advice(best: str, said: str) -> Make:
    """Ask for the changes that follow from a critique (the textual gradient)."""
    return lambda request: _review(ADVICE.format(request=_as_text(request), best=best, critique=said))


def revision(best: str, said: str) -> Make:
    """Ask for the request's answer anew, after the best draft and the advice on it."""
    turn = {"role": "user", "content": REVISION.format(advice=said)}
    return lambda request: [*request, {"role": "assistant", "content": best}, turn]


def fit_to_budget(make: Make, request: Sequence[Message], policy: Policy) -> FittingChat | None:
    """Fit as much of the request into the chat as the policy has room for; None where there is too little for any.

    Args:
        make: the chat of a request.
        request: its first turns, the system's, and its last, the query, always stay.
        policy: who is asked; one that knows no budget has room.
    """
    budget = policy.budget if isinstance(policy, Budgeted) else None
    shorter = list(request)
    while True:
        chat = make(shorter)
        if budget is None or (isinstance(policy, Budgeted) and policy.count(chat) <= budget):
            return FittingChat(tuple(chat), len(request) - len(shorter))
        start = next((place for place, turn in enumerate(shorter) if turn["role"] != "system"), len(shorter))
        # up to the next user's turn, so that turns go on taking turns
        later = (place for place in range(start + 1, len(shorter)) if shorter[place]["role"] == "user")
        end = next(later, None)
        if end is None:
            return None
        del shorter[start:end]


def _review(content: str) -> list[Message]:
    return [{"role": "system", "content": REVIEWER}, {"role": "user", "content": content}]


def _as_text(request: Sequence[Message]) -> str:
    """Write a request as a text: what an earlier turn asked and what its author wrote, then what is asked now."""
    said = {"system": "The task: ", "user": "Asked before: ", "assistant": "This reader then wrote: "}
    turns = [said.get(turn["role"], "") + turn["content"] for turn in request[:-1]]
    return "\n\n".join([*turns, "Asked now: " + request[-1]["content"]])
