"""Read a server's answers: the parameters that it honours, and the candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bestfor.endpoint import EndpointError, RefusedError
from bestfor.lm.chat import Message, contents
from bestfor.policies.base import Sampled

_SPARED = ("logprobs", "seed", "top_p", "stop")
_LONG = 24
_LIMIT = re.compile(r"(?:<=|at most|up to|no more than|maximum(?: of)?)\s*['\"`]?(\d+)")
_MANY = re.compile(r"""['"`]n['"`]|\bn\b\s*(?:must|should|is|=|>|<|parameter|value)|multiple (?:choices|completions)""")


@dataclass
class ServerTraits:
    """Parameters and limits of a server, as its answers have shown them.

    Attributes:
        most: choices that it gives to one request at most, None where it has always given all.
        dropped: parameters that it refuses and that are left out.
        limit: how it calls the longest answer.
        silent: whether log-probabilities were asked for and not given.
        without_model: users for whom it has no model of their own.
    """

    most: int | None = None
    dropped: set[str] = field(default_factory=set)
    limit: str = "max_tokens"
    silent: bool = False
    without_model: set[str] = field(default_factory=set)

    def size(self, owed: int) -> int:
        """Number of choices to ask for in one request."""
        return owed if self.most is None else min(owed, self.most)

    def adapt(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Word a request's fields as the server takes them."""
        said = {name: value for name, value in fields.items() if name not in self.dropped}
        return {self.limit if name == "max_tokens" else name: value for name, value in said.items()}

    def learn(self, refusal: RefusedError, body: Mapping[str, Any]) -> bool:
        """Learn from a refusal.

        Only what changes no candidate's distribution is given up: ``top_p`` where it is 1, and ``stop`` because texts
        are cut on this side too.

        Args:
            refusal: what the server said.
            body: the request that it refused.

        Returns:
            Whether the request makes sense again, adapted anew.
        """
        words = f"{refusal.parameter} {refusal.reason}"
        if "max_completion_tokens" in words and "max_tokens" in body:
            self.limit = "max_completion_tokens"
            return True
        for name in _SPARED:
            if name in body and re.search(rf"\b{name}\b", words) and not (name == "top_p" and body[name] < 1):
                self.dropped.add(name)
                return True
        wanted = int(body.get("n", 1))
        if wanted > 1 and (refusal.parameter == "n" or _MANY.search(refusal.reason)):
            named = [int(limit) for limit in _LIMIT.findall(refusal.reason)]
            fewer = min(named) if named and 1 <= min(named) < wanted else wanted // 2
            self.most = min(self.most or wanted, fewer)
            return True
        return False

    def note_choices(self, wanted: int, choices: Sequence[Sampled], logprobs: bool) -> None:
        """Note the choices that came for those that were wanted."""
        if len(choices) < wanted:
            self.most = min(self.most or wanted, len(choices))
        self.silent |= logprobs and any(one.logprob is None for one in choices)

    def notes(self, model: str) -> list[str]:
        """Notes for a reader of the results."""
        said: list[str] = []
        if self.most is not None:
            said.append(
                f"the server of {model} gives at most {self.most} choices to a request: "
                "prompts are sent, and counted, that much more often"
            )
        missing = sorted(self.dropped | ({"logprobs"} if self.silent else set()))
        if missing:
            said.append(f"the server of {model} gives or takes no {', '.join(missing)}")
        if self.without_model:
            said.append(
                f"{len(self.without_model)} users have no adapter on the server of {model}: "
                "the model itself wrote for them"
            )
        return said


@dataclass
class OddityCounts:
    """Counts of candidates with something odd about them.

    Attributes:
        queries: queries with at least two candidates.
        same: those whose candidates are all the same text.
        thinking: candidates that begin with a chain of thought.
        repeating: candidates that hold the whole of a long prompt's last turn.
    """

    queries: int = 0
    same: int = 0
    thinking: int = 0
    repeating: int = 0

    def count(self, candidates: Sequence[Sampled], turn: str) -> None:
        """Count one query's candidates; ``turn`` is the last of its prompt."""
        self.queries += len(candidates) > 1
        self.same += len(candidates) > 1 and len({one.text for one in candidates}) == 1
        self.thinking += sum(one.text.startswith("<think>") for one in candidates)
        self.repeating += sum(len(turn) >= _LONG and turn in one.text for one in candidates)

    def notes(self, model: str) -> list[str]:
        """Notes for a reader of the results."""
        said: list[str] = []
        if self.same:
            said.append(
                f"{self.same} of {self.queries} queries got nothing but identical candidates from {model}: its server "
                "decodes greedily (is sampling on in the model's generation_config?) or shares one seed among choices"
            )
        if self.repeating:
            said.append(
                f"{self.repeating} candidates of {model} repeat their prompt: "
                "its server gives back more than was written"
            )
        if self.thinking:
            said.append(
                f"{self.thinking} candidates of {model} begin with <think>: thinking can be switched off in extra_body"
            )
        return said


def completion_prompt(messages: Sequence[Message]) -> str:
    """Write a chat as plain text, for models that continue a text: its turns, parted by empty lines."""
    return contents(messages) + "\n\n"


def read(answer: Mapping[str, Any], stop: Sequence[str], scrub: Callable[[str], str]) -> list[Sampled]:
    """Read the candidates of an answer, from either kind of endpoint.

    Args:
        answer: with a list of objects ``choices``.
        stop: texts that end a candidate: servers differ in whether these are cut off.
        scrub: takes secrets out of a text.

    Returns:
        One candidate for each choice. Where choices do not say how many tokens they have, the answer's total is shared
        out by the lengths of the texts.

    Raises:
        EndpointError: a choice holds no text.
    """
    choices = answer["choices"]
    texts = [scrub(_text(choice)).strip() for choice in choices]
    shares = _shares(answer, texts)
    found: list[Sampled] = []
    for choice, text, share in zip(choices, texts, shares, strict=True):
        cut = text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]
        reason = "stop" if len(cut) < len(text) else str(choice.get("finish_reason") or "unknown")
        logprobs = token_logprobs(choice)
        tokens = share if logprobs is None else len(logprobs)
        found.append(Sampled(cut.strip(), tokens, None if logprobs is None else math.fsum(logprobs), reason))
    return found


def token_logprobs(choice: Mapping[str, Any]) -> list[float] | None:
    """Read the log-probabilities of a choice's tokens in nats, None where the server does not give them."""
    held = choice.get("logprobs")
    if not isinstance(held, Mapping):
        return None
    content, legacy = held.get("content"), held.get("token_logprobs")
    if isinstance(content, list):
        values = [one.get("logprob") if isinstance(one, Mapping) else None for one in content]
    else:
        values = [value for value in legacy if value is not None] if isinstance(legacy, list) else []
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return numbers if numbers and len(numbers) == len(values) else None


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    if isinstance(message, Mapping):
        content = message.get("content")
        if isinstance(content, list):
            return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
        return "" if content is None else str(content)
    if not isinstance(choice.get("text"), str):
        raise EndpointError("a choice with neither a message nor a text")
    return choice["text"]


def _shares(answer: Mapping[str, Any], texts: Sequence[str]) -> list[int]:
    usage = answer.get("usage")
    total = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    if not isinstance(total, int):
        return [len(text.split()) for text in texts]
    weights = [len(text) + 1 for text in texts]
    ends = [round(total * sum(weights[: index + 1]) / sum(weights)) for index in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
