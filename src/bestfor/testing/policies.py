"""Check that a policy conforms: inherit :class:`PolicyTests` and set ``policy``, or override ``build``.

class TestMine(PolicyTests):
    policy = Mine
    options = {"model": "m"}
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from bestfor.policies.base import Budgeted, Policy, Prompt, Resumable, Sampled
from bestfor.policies.check import check_policy, check_written


class PolicyTests:
    """Conformance tests of a policy: what holds for every one."""

    policy: ClassVar[type[Any]]
    options: ClassVar[dict[str, Any]] = {}
    queries: ClassVar[tuple[str, ...]] = ("q1", "q2", "q3")
    repeats: ClassVar[bool] = True
    """Whether equal calls write equal texts; servers promise nothing."""

    @pytest.fixture
    def made(self) -> Policy:
        """The policy; one that needs a server or a checkpoint overrides it with a fixture of its own."""
        return self.policy(**self.options)

    def prompts(self) -> list[Prompt]:
        """Prompts that the policy is asked."""
        said = "Write a headline about llamas, number"
        return [Prompt(name, ({"role": "user", "content": f"{said} {name}"},), f"u{name}") for name in self.queries]

    def sample(self, policy: Policy, prompts: list[Prompt], n: int, seed: int = 0) -> list[list[Sampled]]:
        """Candidates, checked as a run checks them."""
        return check_written(policy, prompts, n, policy.sample(prompts, n, seed=seed))

    def test_it_says_what_it_is(self, made: Policy) -> None:
        check_policy(made)
        assert isinstance(made, Policy)
        assert json.loads(json.dumps(made.signature)) == made.signature
        assert made.signature == made.signature

    def test_n_candidates_for_each_prompt(self, made: Policy) -> None:
        for n in (1, 3):
            written = self.sample(made, self.prompts(), n)
            for one in (one for candidates in written for one in candidates):
                assert one.tokens >= 0
                assert one.logprob is None or one.logprob <= 0
        assert self.sample(made, [], 2) == []

    def test_same_seed_same_texts_in_any_order_of_prompts(self, made: Policy) -> None:
        if not self.repeats:
            return
        prompts = self.prompts()
        first = self.sample(made, prompts, 2, seed=3)
        assert self.sample(made, prompts, 2, seed=3) == first
        assert self.sample(made, prompts[::-1], 2, seed=3) == first[::-1]

    def test_what_it_may_be_asked_is_counted_in_tokens(self, made: Policy) -> None:
        if not isinstance(made, Budgeted):
            return
        assert made.budget is None or made.budget > 0
        short, long = ([{"role": "user", "content": "word " * count}] for count in (1, 50))
        assert 0 < made.count(short) < made.count(long)  # pyright: ignore[reportArgumentType]

    def test_it_goes_on_with_what_is_owed(self, made: Policy) -> None:
        if not isinstance(made, Resumable):
            return
        prompts = self.prompts()
        assert made.parallel >= 1
        have = [{1: Sampled("there already", 2, None, "stop")}, *({} for _ in prompts[1:])]
        written = check_written(made, prompts, 2, made.complete(prompts, 2, seed=0, have=have))
        assert written[0][1].text == "there already"
