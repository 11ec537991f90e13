from bestfor.rewards import Gaussian
from bestfor.testing.rewards import RewardModelTests


class TestGaussian(RewardModelTests):
    model = Gaussian
    options = {"components": 8}
