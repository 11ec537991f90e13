"""Revise drafts after a reward model's verdict: test-time preference optimization (TPO) as a policy."""

from bestfor.moved import renamed
from bestfor.policies.feedback.policy import FeedbackPolicy, FeedbackStep, Score, Trace, free_text_policy

__all__ = ["FeedbackPolicy", "FeedbackStep", "Score", "Trace", "free_text_policy"]

__getattr__ = renamed(__name__, {"Step": "FeedbackStep", "talkative": "free_text_policy"})
