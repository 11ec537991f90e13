from typing import ClassVar

from bestfor.rewards import Hierarchical
from bestfor.testing.rewards import RewardModelTests


class TestHierarchical(RewardModelTests):
    model = Hierarchical
    options: ClassVar = {"components": 8}
