"""Revise drafts after a reward model's verdict: test-time preference optimization (TPO) as a policy."""

from bestfor.policies.feedback.policy import FeedbackPolicy, Score, Step, Trace, talkative

__all__ = ["FeedbackPolicy", "Score", "Step", "Trace", "talkative"]
