"""Read a score from a language model's answer: the expectation over its score tokens (Liu et al. 2023, G-Eval).

With p(s) the probability of score s at the place where the answer's number begins, the score is
sum over s of s p(s) / sum over s of p(s), and 1 - sum over s of p(s) is the missing mass: what the model would rather
have said. Without probabilities the number itself is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bestfor.endpoint.chat import Reading

_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"(?<![\w.,-])[0-9]+(?:\.[0-9]+)?(?!\w|[.,][0-9])")
_LEAD = r"[^\w-]*(?:(?:the |my )?(?:final )?(?:score|rating|answer)(?: is)?)?[^\w-]*"
_PLAIN = re.compile(_LEAD + r"(-?[0-9]+(?:\.[0-9]+)?)\s*(?:(?:/|out of)\s*([0-9]+))?\W*", re.IGNORECASE)


@dataclass(frozen=True)
class Score:
    """Score of an answer, with the probability of all that is none.

    Attributes:
        value: within the scale.
        missing: probability of all that is no score, None where the number itself was read.
    """

    value: float
    missing: float | None = None


@dataclass(frozen=True)
class _Token:
    """Token of an answer with its alternatives.

    Attributes:
        text: as it was written.
        probability: of each alternative text, its own among them.
    """

    text: str
    probability: Mapping[str, float]


def score_reading(low: int, high: int) -> Reading:
    """Build the reader of scores of a scale, which are kept as ``[value, missing]``."""

    def read(choice: Mapping[str, Any]) -> list[float | None] | None:
        score = read_score(choice, low, high)
        return None if score is None else [score.value, score.missing]

    def fits(value: object) -> bool:
        if not isinstance(value, list) or len(value) != 2:
            return False
        missing = value[1] is None or (_is_number(value[1]) and 0 <= value[1] <= 1)
        return _is_number(value[0]) and low <= value[0] <= high and missing

    return Reading(read, fits)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_score(choice: Mapping[str, Any], low: int, high: int) -> Score | None:
    """Read the score of a choice of a chat answer.

    Args:
        choice: with ``message.content``, and perhaps ``logprobs.content`` with ``top_logprobs``.
        low: the lowest score, an integer of 0 or more.
        high: the highest.

    Returns:
        The score, None where the answer is no score of the scale.
    """
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(text, str):
        return None
    found = read_number(text, low, high)
    if found is None:
        return None
    value, start = found
    tokens = _tokens(choice)
    if value == int(value) and "".join(token.text for token in tokens).startswith(text[: start + 1]):
        expected = _expectation(_from(tokens, start), low, high)
        if expected is not None:
            return expected
    return Score(value)


def read_number(text: str, low: int, high: int) -> tuple[float, int] | None:
    """Read the score that a text states.

    A text that is little more than a number (``4``, ``Score: 4/5``) states it; any other states a score only where it
    holds no second number, for which of two is meant cannot be known.

    Returns:
        The number and where it begins; None where there is none, or none within the scale.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is not None and plain[2] in (None, str(high)):
        value, start = float(plain[1]), plain.start(1)
    else:
        number = _NUMBER.search(text)
        if number is None or set(_DIGITS.findall(text)) != set(_DIGITS.findall(number[0])):
            return None
        value, start = float(number[0]), number.start()
    return (value, start) if low <= value <= high else None


def _tokens(choice: Mapping[str, Any]) -> list[_Token]:
    held = choice.get("logprobs")
    content = held.get("content") if isinstance(held, Mapping) else None
    if not isinstance(content, list) or not all(isinstance(one, Mapping) for one in content):
        return []
    tokens: list[_Token] = []
    for one in content:
        probability: dict[str, float] = {}
        for other in [one, *(one.get("top_logprobs") or [])]:
            logprob = other.get("logprob") if isinstance(other, Mapping) else None
            if isinstance(logprob, int | float) and not math.isnan(logprob):
                probability[str(other.get("token", ""))] = math.exp(min(0.0, logprob))
        tokens.append(_Token(str(one.get("token", "")), probability))
    return tokens


def _from(tokens: Sequence[_Token], start: int) -> list[_Token]:
    """Take the tokens from the one that holds a place of the text on."""
    at = 0
    for index, token in enumerate(tokens):
        at += len(token.text)
        if at > start:
            return list(tokens[index:])
    return []


def _expectation(tokens: Sequence[_Token], low: int, high: int) -> Score | None:
    """Compute the expectation at the first token, which begins the number."""
    if not tokens or not _DIGITS.fullmatch(tokens[0].text.strip()):
        return None
    mass = dict.fromkeys(range(low, high + 1), 0.0)
    spelled: dict[str, float] = {}
    for text, probability in tokens[0].probability.items():
        if _DIGITS.fullmatch(text.strip()):
            spelled[text.strip()] = spelled.get(text.strip(), 0.0) + probability
    for digits, probability in spelled.items():
        for value, share in _readings(digits, tokens, spelled, high):
            if value in mass:
                mass[value] += probability * share
    total = math.fsum(mass.values())
    if total <= 0:
        return None
    value = math.fsum(score * probability for score, probability in mass.items()) / total
    return Score(value, max(0.0, 1.0 - total))


def _readings(
    digits: str, tokens: Sequence[_Token], spelled: Mapping[str, float], high: int
) -> list[tuple[int, float]]:
    """List the scores that a token may begin, with shares: ``1`` may begin ``10`` where tokens are single digits.

    What was written next tells for the token that was chosen; for another one it is unknown, and its mass is missing.
    """
    value = int(digits)
    longer = [score for score in range(10, high + 1) if str(score).startswith(digits) and score != value]
    if not longer or any(str(score) in spelled for score in range(10, high + 1)):
        return [(value, 1.0)]
    if tokens[0].text.strip() != digits or len(tokens) < 2:
        return [(value, 1.0)] if tokens[0].text.strip() == digits else []
    following = tokens[1].probability
    share = {score: math.fsum(p for text, p in following.items() if text == str(score)[1:]) for score in longer}
    digit = math.fsum(p for text, p in following.items() if text[:1].isdigit())
    return [(value, max(0.0, 1.0 - digit)), *share.items()]
