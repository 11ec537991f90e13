"""Understand what a server refuses of a request, in whatever words it says so, and what to ask instead.

The words are those of OpenAI, vLLM, sglang, llama.cpp, Gemini, Mistral and gateways before them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bestfor.data.turns import instructs, without_system
from bestfor.endpoint.failures import EndpointError, RefusedError

_CHOICES = re.compile(
    r"""['"`]n['"`]|\bn\b\s*(?:must|should|can|is|=|>|<|parameter|value|:)|parameters?:?\s*n\b|candidate_?count|best_of"""
    r"""|num_?generations|num_return_sequences"""
    r"""|(?:multiple|several|too many|more than (?:one|1)|number of) (?:choices|completions|candidates|generations)"""
    r"""|(?:only|just|at most|single) (?:one |1 )?(?:choice|completion|candidate|generation)""",
    re.IGNORECASE,
)
_MOST = re.compile(
    r"(?:<=|≤|at most|up to|no more than|not exceed|less than or equal to|must be|"
    r"max(?:imum)?(?: value)?(?: of| is|:)?|"
    r"limit(?:ed)?(?: to| of| is|:)?|only supports?)\s*['\"`]?(\d+)",
    re.IGNORECASE,
)
_BELOW = re.compile(r"(?:(?<!or )less than|<|below|smaller than|fewer than)\s*['\"`]?(\d+)", re.IGNORECASE)
_SPAN = re.compile(
    r"(?:between|from|range|in|within)\s*(?:of|is|:|from)?\s*[\[(]?\s*(\d+)\s*(?:\(inclusive\))?\s*"
    r"(?:to|and|-|–|,|\.\.)\s*(?:[^\d\s]*\s*<=\s*)?(\d+)\s*(\(exclusive\)|\))?",
    re.IGNORECASE,
)
_LOGPROBS = re.compile(r"(?:top_?|response)?log[\s_-]?prob", re.IGNORECASE)
_SYSTEM = re.compile(
    r"system['\"`]?\W{0,3}\s?(?:role|messages?|prompts?|instructions?|turns?)\b|role.{0,60}\bsystem\b|"
    r"\bsystem\b.{0,60}\brole|developer instruction|system.?instruction|roles? must alternate|"
    r"must be one of:? \W{0,3}user\W+(?:assistant|model)|first (?:message|turn|role).{0,30}\buser\b|"
    r"only (?:the )?['\"`]?user['\"`]?,? and ['\"`]?(?:assistant|model)",
    re.IGNORECASE | re.DOTALL,
)


def names(refusal: RefusedError, parameter: str) -> bool:
    """Tell whether a refusal is about a parameter."""
    words = f"{refusal.parameter} {refusal.reason}"
    if parameter == "logprobs":
        return bool(_LOGPROBS.search(words))
    return bool(re.search(rf"\b{parameter}\b", words))


def fewer_choices(refusal: RefusedError, wanted: int) -> int | None:
    """Find how many choices to ask for after a refusal of ``wanted``: the limit that it names, or half of them.

    Returns:
        1 or more and less than ``wanted``; None where the refusal is about something else, or one is too many.
    """
    if wanted < 2 or not (refusal.parameter in ("n", "candidateCount") or _CHOICES.search(refusal.reason)):
        return None
    said = refusal.reason
    named = [int(most) for most in _MOST.findall(said)] + [int(above) - 1 for above in _BELOW.findall(said)]
    for _, high, end in _SPAN.findall(said):
        named.append(int(high) - 1 if end.lower() in ("(exclusive)", ")") and end else int(high))
    within = [limit for limit in named if 1 <= limit < wanted]
    return min(within) if within else wanted // 2


class SystemTurns:
    """Memory of whether a server takes system turns; where it does not, its chats are sent without.

    A refusal says so in words. Some servers answer HTTP 500 without any: then the same chat is tried without a system
    turn, and what becomes of it decides.
    """

    def __init__(self) -> None:
        self.folded = False
        self._certain = False

    def adapt(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Word a chat as the server takes it."""
        return without_system(messages) if self.folded and instructs(messages) else [dict(one) for one in messages]

    def learn(self, error: EndpointError, sent: Sequence[Mapping[str, str]]) -> bool:
        """Learn from a chat that was not answered; returns whether it makes sense again, adapted anew."""
        if not instructs(sent):
            self.folded = self.folded and self._certain
            return False
        if isinstance(error, RefusedError) and _SYSTEM.search(f"{error.parameter} {error.reason}"):
            self.folded = self._certain = True
            return True
        if error.status == 500 and not self._certain:
            self.folded = True
            return True
        return False

    def answered(self, sent: Sequence[Mapping[str, str]]) -> None:
        """Learn from a chat that was answered."""
        if instructs(sent):
            self.folded, self._certain = False, True
        elif self.folded:
            self._certain = True

    def notes(self, model: str) -> list[str]:
        """Notes for a reader of the results."""
        told = f"the server of {model} takes no system turn: the instruction stands before the first user turn"
        return [told] if self.folded and self._certain else []
