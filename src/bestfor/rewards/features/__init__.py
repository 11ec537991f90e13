"""Turn texts into features: embeddings, style and history in one space.

Two kernels lie in modules of their own, for the models that need them: :mod:`bestfor.rewards.features.kernel` (as
features of a linear model) and :mod:`bestfor.rewards.features.nearness` (of meaning and spelling, for a Gaussian
process).
"""

from bestfor.rewards.features.embeddings import check_signature, check_width, unit_rows
from bestfor.rewards.features.history import HISTORY, history_features
from bestfor.rewards.features.space import CLIP, Design, FeatureConfig, Space, fit_space, restore_space
from bestfor.rewards.features.style import ANSWER, STYLE, answer_features, style_features

__all__ = [
    "ANSWER",
    "CLIP",
    "HISTORY",
    "STYLE",
    "Design",
    "FeatureConfig",
    "Space",
    "answer_features",
    "check_signature",
    "check_width",
    "fit_space",
    "history_features",
    "restore_space",
    "style_features",
    "unit_rows",
]
