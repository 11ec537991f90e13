from bestfor.rewards import Pooled
from bestfor.testing.rewards import RewardModelTests


class TestPooled(RewardModelTests):
    model = Pooled
    options = {"components": 8}
