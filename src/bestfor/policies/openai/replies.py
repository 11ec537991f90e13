"""Read a server's answers: the parameters that it honours, and the candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bestfor.data.states import EMPTY, has_text
from bestfor.endpoint import RefusedError
from bestfor.endpoint.choices import CUT, FAILED, TEXT, Choice, Spent, read_choice
from bestfor.endpoint.refusals import SystemTurns, fewer_choices, names
from bestfor.lm.chat import Message, contents
from bestfor.policies.base import Sampled

_SPARED = ("logprobs", "seed", "top_p", "stop")
_LONG = 24


@dataclass
class ServerTraits:
    """Parameters and limits of a server, as its answers have shown them.

    Attributes:
        most: choices that it gives to one request at most, None where it has always given all.
        dropped: parameters that it refuses and that are left out.
        limit: how it calls the longest answer.
        silent: whether log-probabilities were asked for and not given.
        without_model: users for whom it has no model of their own.
        turns: whether it takes system turns.
    """

    most: int | None = None
    dropped: set[str] = field(default_factory=set)
    limit: str = "max_tokens"
    silent: bool = False
    without_model: set[str] = field(default_factory=set)
    turns: SystemTurns = field(default_factory=SystemTurns)

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
        if "max_tokens" in body and "max_completion_tokens" in f"{refusal.parameter} {refusal.reason}":
            self.limit = "max_completion_tokens"
            return True
        for name in _SPARED:
            if name in body and names(refusal, name) and not (name == "top_p" and body[name] < 1):
                self.dropped.add(name)
                return True
        fewer = fewer_choices(refusal, int(body.get("n", 1)))
        if fewer is not None:
            self.most = min(self.most or fewer, fewer)
        return fewer is not None

    def note_choices(self, wanted: int, choices: Sequence[Sampled | None], logprobs: bool) -> None:
        """Note the choices that came for those that were wanted; None stands for one that failed."""
        if len(choices) < wanted:
            self.most = min(self.most or wanted, len(choices))
        self.silent |= logprobs and any(one is not None and one.text and one.logprob is None for one in choices)

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
        return said + self.turns.notes(model)


@dataclass
class OddityCounts:
    """Counts of candidates with something odd about them.

    Attributes:
        queries: queries with at least two candidates.
        same: those whose candidates are all the same text.
        thinking: candidates whose chain of thought was taken off.
        repeating: candidates that hold the whole of a long prompt's last turn.
        failed: why choices failed that were asked for again.
    """

    queries: int = 0
    same: int = 0
    thinking: int = 0
    repeating: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def count(self, candidates: Sequence[Sampled], turn: str) -> None:
        """Count one query's candidates; ``turn`` is the last of its prompt."""
        texts = [one.text for one in candidates if has_text(one.finish_reason, one.text)]
        self.queries += len(texts) > 1
        self.same += len(texts) > 1 and len(set(texts)) == 1
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
                f"{self.thinking} candidates of {model} came after a chain of thought, which was taken off: it uses up "
                "max_new_tokens, and thinking can be switched off in extra_body"
            )
        if self.failed:
            causes = "; ".join(f"{n} x {cause}" for cause, n in self.failed.most_common(3))
            said.append(f"{self.failed.total()} choices of {model} failed and were asked for again ({causes})")
        return said


def completion_prompt(messages: Sequence[Message]) -> str:
    """Write a chat as plain text, for models that continue a text: its turns, parted by empty lines."""
    return contents(messages) + "\n\n"


@dataclass(frozen=True)
class Reply:
    """Choice of an answer, read.

    Attributes:
        sampled: the candidate; None where the choice failed.
        choice: what was read.
    """

    sampled: Sampled | None
    choice: Choice


def read(answer: Mapping[str, Any], stop: Sequence[str], scrub: Callable[[str], str]) -> list[Reply]:
    """Read the candidates of an answer, from either kind of endpoint.

    Args:
        answer: with a list of objects ``choices``.
        stop: texts that end a candidate: servers differ in whether these are cut off.
        scrub: takes secrets out of a text.

    Returns:
        One reply for each choice. Where choices do not say how many tokens they have, the answer's total is shared
        out by the lengths of the texts. A candidate without a text has its state as ``finish_reason``; the probability
        of one after a chain of thought is not known.
    """
    spent = Spent.of(answer)
    raw = answer["choices"]
    read_ones = [read_choice(one, spent) for one in raw]
    texts = [scrub(one.text).strip() for one in read_ones]
    shares = _shares(answer, texts)
    found: list[Reply] = []
    for whole, choice, text, share in zip(raw, read_ones, texts, shares, strict=True):
        cut = text[: min((text.find(mark) for mark in stop if mark in text), default=len(text))]
        logprobs = token_logprobs(whole)
        tokens = share if logprobs is None else len(logprobs)
        logprob = None if logprobs is None or choice.chain else math.fsum(logprobs)
        reason = "stop" if len(cut) < len(text) else _reason(whole, choice)
        one = Sampled(cut.strip(), tokens, logprob, reason if cut.strip() or not text else EMPTY)
        found.append(Reply(None if choice.state == FAILED else one, choice))
    return found


def _reason(whole: Mapping[str, Any], choice: Choice) -> str:
    if choice.state == CUT:
        return "length"
    return str(whole.get("finish_reason") or "unknown") if choice.state == TEXT else choice.state


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


def _shares(answer: Mapping[str, Any], texts: Sequence[str]) -> list[int]:
    usage = answer.get("usage")
    total = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    if not isinstance(total, int):
        return [len(text.split()) for text in texts]
    weights = [len(text) + 1 for text in texts]
    ends = [round(total * sum(weights[: index + 1]) / sum(weights)) for index in range(len(weights))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
