from typing import ClassVar

from bestfor.rewards import Ridge
from bestfor.testing.rewards import RewardModelTests


class TestRidge(RewardModelTests):
    model = Ridge
    options: ClassVar = {"components": 8}
