"""Revise a policy's drafts by iterative textual feedback after a reward model's verdict, at test time.

Test-time preference optimization (TPO; Li, Hu, Qu, Li & Cheng 2025, ICML): for each query

    step 0: w candidates from the request; each step after it: of all candidates so far the best and the worst scored
    -> a critique of their difference ("textual loss") -> advice ("textual gradient") -> w revisions of the best

and the answer is the best scored of all. Weights stay as they are; the reward model is heard through words. Critiques
cost generated tokens, so a comparison with Best-of-N is one at equal tokens: :attr:`Trace.spent` counts them, and
:func:`bestfor.diagnostics.best_by_tokens` makes a curve of it. The reward of the answer never falls from step to step;
its utility may.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from bestfor.errors import InputError
from bestfor.lm.chat import Message
from bestfor.moved import renamed
from bestfor.policies.base import Budgeted, Policy, Prompt, Resumable, Sampled, UnfinishedError
from bestfor.policies.feedback.prompts import DIGEST
from bestfor.policies.feedback.steps import FeedbackSession, Score
from bestfor.policies.feedback.trace import FeedbackCounts, FeedbackStep, QueryProgress, Trace
from bestfor.policies.prompts import estimate

__all__ = ["FeedbackPolicy", "FeedbackStep", "Score", "Trace", "free_text_policy"]

__getattr__ = renamed(__name__, {"Step": "FeedbackStep", "talkative": "free_text_policy"})

_LOADED_ONCE = ("checkpoint", "endpoint", "_traits")
"""What a policy loads or opens once: the model, or the connection with its budget and what is known of the server."""


@dataclass(frozen=True)
class FeedbackPolicy:
    """Writes candidates in steps, each step's after feedback on those before.

    Its n candidates are all that it wrote, in order: ``width`` from the request as it is (the very ones that the policy
    writes by itself), then ``width`` revisions a step; the last step may be shorter. A step without two differing
    scores, without room for the feedback, or with an empty critique or advice samples the request anew; ``notes`` count
    such steps.

    Attributes:
        policy: writes candidates: any that answers free-form messages.
        score: a reward model's verdict; see :data:`Score`.
        identity: names that reward model, for the pool's keys.
        width: candidates of a step (w); the paper takes 5.
        contrast: whether critiques compare the best with the worst; without, they are of the best alone (the paper's
            "revision" baseline).
        critique_tokens: the longest critique or advice.
        critic: writes these, where it is not the policy itself.
    """

    kind: ClassVar[str] = "feedback"
    keys: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[tuple[str, ...]] = ("base", "feedback", "profile")

    policy: Policy
    score: Score = field(repr=False)
    identity: str
    width: int = field(default=5, kw_only=True)
    contrast: bool = field(default=True, kw_only=True)
    critique_tokens: int = field(default=256, kw_only=True)
    critic: Policy | None = field(default=None, kw_only=True)
    _counts: FeedbackCounts = field(default_factory=FeedbackCounts, init=False, repr=False, compare=False)
    _spent: dict[str, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("identity", self.identity, bool(self.identity), "a name for the reward model")
        _check("width", self.width, self.width >= 1, "at least 1")
        _check("critique_tokens", self.critique_tokens, self.critique_tokens >= 1, "at least 1")

    @property
    def name(self) -> str:
        """The policy's name, and that it gets feedback."""
        return f"{self.policy.name} with feedback"

    @property
    def chunk(self) -> int:
        """Queries in a chunk, as of the policy."""
        return self.policy.chunk

    @property
    def signature(self) -> dict[str, str | int | float]:
        """Plain values of what decides the texts: the policy, the reward model's name, and the feedback's settings."""
        other = {} if self.critic is None else {"critic": repr(sorted(self.critic.signature.items()))}
        return {
            **{f"policy.{name}": value for name, value in self.policy.signature.items()},
            **other,
            "kind": "feedback",
            "score": self.identity,
            "width": self.width,
            "contrast": self.contrast,
            "critique_tokens": self.critique_tokens,
            "prompts": DIGEST,
        }

    @property
    def budget(self) -> int | None:
        """Token budget of a chat, as of the policy: the first step's prompts are its own."""
        return self.policy.budget if isinstance(self.policy, Budgeted) else None

    def count(self, messages: list[Message]) -> int:
        """Tokens of a chat as the policy reads it."""
        return self.policy.count(messages) if isinstance(self.policy, Budgeted) else estimate(messages)

    @property
    def parallel(self) -> int:
        """Number of chunks at a time, as of the policy; 1 for one on this machine."""
        return self.policy.parallel if isinstance(self.policy, Resumable) else 1

    def interrupt(self) -> None:
        """End the calls under way."""
        for one in (self.policy, self.critic):
            if isinstance(one, Resumable):
                one.interrupt()

    @property
    def notes(self) -> tuple[str, ...]:
        """Tokens so far, steps that could not revise, and what the policy has to say."""
        return (*self._counts.notes(), *getattr(self.policy, "notes", ()))

    @property
    def spent(self) -> Mapping[str, tuple[int, ...]]:
        """Tokens by query id: :attr:`Trace.spent` of the last call that wrote all of the query's candidates."""
        return dict(self._spent)

    def sample(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[list[Sampled]]:
        """Write n candidates for every prompt, in ``n / width`` steps.

        Args:
            prompts: what is asked, with distinct query ids.
            n: candidates for each prompt, those of all steps together.
            seed: the run's seed; a call's noise is keyed by it, the query and the step.

        Returns:
            One list of n candidates for each prompt, in the order written.

        Raises:
            UnfinishedError: some requests failed; holds what was written.
            InputError: two prompts share an id, a prompt does not fit the policy, or the scores do not fit the texts.
        """
        return [list(trace.candidates) for trace in self.refine(prompts, n, seed=seed)]

    def complete(
        self, prompts: Sequence[Prompt], n: int, *, seed: int, have: Sequence[Mapping[int, Sampled]]
    ) -> list[list[Sampled]]:
        """Write what is owed beside candidates that are there; their scores are taken, their critiques asked anew.

        Args:
            prompts: as for :meth:`sample`; likewise what is raised.
            n: likewise.
            seed: likewise.
            have: for each prompt the candidates that are there, by their index below n.
        """
        return [list(trace.candidates) for trace in self._run(prompts, n, seed, have)]

    def refine(self, prompts: Sequence[Prompt], n: int, *, seed: int) -> list[Trace]:
        """Sample as :meth:`sample` does, with scores, critiques, advice and tokens."""
        return self._run(prompts, n, seed, [{}] * len(prompts))

    def _run(self, prompts: Sequence[Prompt], n: int, seed: int, have: Sequence[Mapping[int, Sampled]]) -> list[Trace]:
        name, count = Counter(prompt.query_id for prompt in prompts).most_common(1)[0] if prompts else ("", 0)
        if count > 1:
            raise InputError("prompts", f"query '{name}' twice", "distinct query ids")
        works = [QueryProgress(one, dict(got), whole=not got) for one, got in zip(prompts, have, strict=True)]
        ordered = sorted(works, key=lambda work: work.prompt.query_id)
        session = FeedbackSession(self.policy, self._critic, self.score, self.contrast, seed, self._counts, self._lock)
        for start in range(0, len(ordered), self.chunk):
            if not session.hopeless:
                session.run(ordered[start : start + self.chunk], n, self.width)
        if session.failures:
            worst = max(session.failures, key=lambda failure: failure.hopeless)
            told = {name: why for failure in session.failures for name, why in failure.refused.items()}
            # A call within a query is named after it.
            refused = {
                own: why
                for own in (work.prompt.query_id for work in works)
                for name, why in told.items()
                if name == own or name.startswith(f"{own}#")
            }
            raise UnfinishedError([work.got for work in works], str(worst), hopeless=worst.hopeless, refused=refused)
        traces = [work.trace(n, self.width) for work in works]
        self._spent.update(
            {one.prompt.query_id: one.spent for one, work in zip(traces, works, strict=True) if work.whole}
        )
        return traces

    @cached_property
    def _critic(self) -> Policy:
        return self.critic or free_text_policy(self.policy, self.critique_tokens)


def free_text_policy(policy: Policy, tokens: int) -> Policy:
    """Copy a policy for free texts of another length: same connection and budget, no stop texts, no adapter.

    Args:
        policy: one of this package; another, whose limits are not known, is given back as it is.
        tokens: the longest text.

    Raises:
        InputError: the model has no room for texts of that length.
    """
    if not is_dataclass(policy) or isinstance(policy, type):
        return policy
    known = {one.name for one in fields(policy)}
    if "max_new_tokens" not in known:
        return policy
    free: dict[str, Any] = {"max_new_tokens": tokens, "stop": (), "adapters": None, "user_model": ""}
    twin = replace(policy, **{name: value for name, value in free.items() if name in known})
    for name in _LOADED_ONCE:
        if hasattr(type(policy), name):
            twin.__dict__[name] = getattr(policy, name)
    return twin


def _check(what: str, value: object, fine: bool, expected: str) -> None:
    if not fine:
        raise InputError(f"FeedbackPolicy.{what}", repr(value), expected)
