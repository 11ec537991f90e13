"""Run the steps of textual feedback (draft, score, critique, advise, revise), one call for all queries side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bestfor.data.states import has_text
from bestfor.errors import InputError
from bestfor.lm.chat import Message
from bestfor.policies.base import Policy, Prompt, Resumable, Sampled, UnfinishedError
from bestfor.policies.feedback.prompts import FittingChat, advice, critique, fit_to_budget, revision
from bestfor.policies.feedback.trace import FeedbackCounts, FeedbackStep, QueryProgress, extremes

Score = Callable[[Sequence[Prompt], Sequence[Sequence[str]]], Sequence[Sequence[float] | np.ndarray]]
"""Requests and some texts for each of them -> a score for each text, higher is better, NaN where there is none.

It must judge a text by itself: a step's texts are scored once, without those of other steps.
"""

Chats = dict[str, tuple[Message, ...]]
"""Chats by query id."""


@dataclass
class FeedbackSession:
    """Run of one call's steps.

    A query whose call fails goes no further and keeps what it has; the others go on, unless nothing has hope.

    Attributes:
        policy: writes candidates.
        critic: writes critiques and advice.
        score: judges candidates; called by one thread at a time.
        contrast: whether critiques compare two drafts.
        seed: the run's seed.
        counts: of all queries together.
        lock: guards the score function and the counts.
        failures: what could not be had.
    """

    policy: Policy
    critic: Policy
    score: Score
    contrast: bool
    seed: int
    counts: FeedbackCounts
    lock: threading.Lock
    failures: list[UnfinishedError] = field(default_factory=list)

    @property
    def hopeless(self) -> bool:
        """True where further calls would fare no better."""
        return any(failure.hopeless for failure in self.failures)

    def run(self, works: Sequence[QueryProgress], n: int, width: int) -> None:
        """Run all steps of queries that are calls together.

        Args:
            works: in an order of their own, so that batches are always the same.
            n: candidates of each.
            width: of a step.
        """
        for step, start in enumerate(range(0, n, width)):
            indices = range(start, min(start + width, n))
            owed = [work for work in works if not work.failed and any(index not in work.got for index in indices)]
            chats: Chats = {work.prompt.query_id: work.prompt.messages for work in owed}
            if step:
                chats |= self._feedback(owed, step, start)
            owed = [work for work in owed if not work.failed]
            self._write(owed, chats, indices, f"revision-{step}" if step else "")
            if self.hopeless:
                return
            self._judge([work for work in works if not work.failed], indices)
            with self.lock:
                for work in owed:
                    if not work.failed:
                        self.counts.add([work.got[index] for index in indices], work.steps.get(step))

    def _write(self, owed: Sequence[QueryProgress], chats: Chats, indices: range, call: str) -> None:
        calls = [_named(work.prompt, chats[work.prompt.query_id], call) for work in owed]
        have = [{index - indices.start: work.got[index] for index in indices if index in work.got} for work in owed]
        written = self._ask(self.policy, calls, len(indices), have)
        for work, there, found in zip(owed, have, written, strict=True):
            work.got.update({indices.start + index: one for index, one in found.items() if index not in there})
            work.failed = any(index not in work.got for index in indices)

    def _judge(self, works: Sequence[QueryProgress], indices: range) -> None:
        """Score a step's candidates, those that were there already included."""
        if not works:
            return
        texts = [[work.got[index].text for index in indices] for work in works]
        with self.lock:
            given = self.score([work.prompt for work in works], texts)
        if len(given) != len(works):
            raise InputError("the score function", f"{len(given)} lists", f"{len(works)}, one for each prompt")
        for work, values in zip(works, given, strict=True):
            scores = np.asarray(values, dtype=np.float64)
            if scores.shape != (len(indices),) or np.isinf(scores).any():
                found = f"scores {str(scores.tolist())[:60]} of query '{work.prompt.query_id}'"
                raise InputError("the score function", found, f"{len(indices)} numbers, NaN where there is none")
            known = [has_text(work.got[index].finish_reason, work.got[index].text) for index in indices]
            work.scores.update(zip(indices, np.where(known, scores, np.nan).tolist(), strict=True))

    def _feedback(self, owed: Sequence[QueryProgress], step: int, start: int) -> Chats:
        """Build the chats of revisions: the request with the best draft and the advice on it; without plain steps."""
        for work in owed:
            before = {index: score for index, score in work.scores.items() if index < start}
            work.steps[step] = compare(before, self.contrast)
        self._ask_critic("critique", owed, step)
        self._ask_critic("advice", owed, step)
        chats: Chats = {}
        for work in owed:
            found = work.steps[step]
            if not found.plain and found.best is not None and found.advice is not None:
                make = revision(work.got[found.best].text, found.advice.text)
                room = self._room(work, step, fit_to_budget(make, work.prompt.messages, self.policy))
                if room is not None:
                    chats[work.prompt.query_id] = room.messages
        return chats

    def _ask_critic(self, what: str, owed: Sequence[QueryProgress], step: int) -> None:
        """Ask for every query's critique, or for the advice that follows from it."""
        calls: list[tuple[QueryProgress, Prompt]] = []
        for work in owed:
            found = work.steps[step]
            if found.plain or found.best is None or work.failed:
                continue
            best = work.got[found.best].text
            if what == "critique":
                make = critique(best, None if found.worst is None else work.got[found.worst].text)
            else:
                make = advice(best, "" if found.critique is None else found.critique.text)
            room = self._room(work, step, fit_to_budget(make, work.prompt.messages, self.critic))
            if room is not None:
                calls.append((work, _named(work.prompt, room.messages, f"{what}-{step}")))
        written = self._ask(self.critic, [prompt for _, prompt in calls], 1, [{}] * len(calls))
        for (work, _), found in zip(calls, written, strict=True):
            work.failed = 0 not in found
            if not work.failed:
                plain = "" if found[0].text.strip() else f"empty {what}"
                work.steps[step] = replace(work.steps[step], plain=plain, **{what: found[0]})

    def _room(self, work: QueryProgress, step: int, room: FittingChat | None) -> FittingChat | None:
        """Note what a chat had room for."""
        found = work.steps[step]
        dropped = found.dropped if room is None else max(found.dropped, room.dropped)
        work.steps[step] = replace(found, dropped=dropped, plain="no room" if room is None else "")
        return room

    def _ask(
        self, policy: Policy, prompts: Sequence[Prompt], n: int, have: Sequence[Mapping[int, Sampled]]
    ) -> list[Mapping[int, Sampled]]:
        """Ask a policy and take what it writes, as far as it does; a failure is noted."""
        if not prompts or self.hopeless:
            return [{}] * len(prompts)
        try:
            if any(have) and isinstance(policy, Resumable):
                written = policy.complete(prompts, n, seed=self.seed, have=have)
            else:
                written = policy.sample(prompts, n, seed=self.seed)
        except UnfinishedError as failure:
            self.failures.append(failure)
            return list(failure.written)
        return [dict(enumerate(one)) for one in written]


def compare(scores: Mapping[int, float], contrast: bool) -> FeedbackStep:
    """Choose the drafts that a critique is about.

    Args:
        scores: of the candidates so far, by index; NaN where there is none.
        contrast: whether two are compared.
    """
    best, worst = extremes(scores)
    if best is None or worst is None:
        return FeedbackStep(plain="unscored")
    if not contrast:
        return FeedbackStep(best)
    return FeedbackStep(best, worst) if scores[best] > scores[worst] else FeedbackStep(plain="tie")


def _named(prompt: Prompt, messages: tuple[Message, ...], call: str) -> Prompt:
    """Make the prompt of a call; its name keys its noise, and the first step's is the query's own."""
    return Prompt(f"{prompt.query_id}#{call}" if call else prompt.query_id, messages, prompt.user_id)
