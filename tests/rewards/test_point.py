from typing import ClassVar

from bestfor.rewards import Point
from bestfor.testing.rewards import RewardModelTests


class TestPoint(RewardModelTests):
    model = Point
    options: ClassVar = {"components": 8}
