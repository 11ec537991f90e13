from typing import ClassVar

from bestfor.rewards import Pooled
from bestfor.testing.rewards import RewardModelTests


class TestPooled(RewardModelTests):
    model = Pooled
    options: ClassVar = {"components": 8}
