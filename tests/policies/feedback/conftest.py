import pytest

from bestfor.policies.feedback import FeedbackPolicy
from support import reader


@pytest.fixture
def feedback(policy):
    """Makes policies with feedback of scripted servers."""

    def make(answer=reader.obedient, score=reader.marks, *, context=None, server=None, **options):
        inner, running = policy(answer, context=context, server=server)
        return FeedbackPolicy(inner, score, "a test's", **{"width": 3, "critique_tokens": 20, **options}), running

    return make
