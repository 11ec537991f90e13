"""Linear reward models in closed form: ``pooled`` for everybody, ``ridge`` for each user."""

from bestfor.rewards.linear.pooled import Pooled
from bestfor.rewards.linear.ridge import Ridge

__all__ = ["Pooled", "Ridge"]
