"""Test-time preference optimization (TPO): a policy that revises its own drafts after a reward model's verdict."""

from bestfor.policies.feedback.policy import FeedbackPolicy, Score, Step, Trace, talkative

__all__ = ["FeedbackPolicy", "Score", "Step", "Trace", "talkative"]
