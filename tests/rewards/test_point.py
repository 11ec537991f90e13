from bestfor.rewards import Point
from bestfor.testing.rewards import RewardModelTests


class TestPoint(RewardModelTests):
    model = Point
    options = {"components": 8}
