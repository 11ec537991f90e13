from typing import ClassVar

from bestfor.rewards import Tastes
from bestfor.testing.rewards import RewardModelTests


class TestTastes(RewardModelTests):
    model = Tastes
    options: ClassVar = {"tastes": 3}
