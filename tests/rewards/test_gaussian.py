from typing import ClassVar

from bestfor.rewards import Gaussian
from bestfor.testing.rewards import RewardModelTests


class TestGaussian(RewardModelTests):
    model = Gaussian
    options: ClassVar = {"components": 8}
