import pytest

from bestfor.rewards import Lora
from bestfor.testing.rewards import RewardModelTests
from support.lora import SHORT


class TestLora(RewardModelTests):
    model = Lora
    close = 1e-6

    @pytest.fixture(autouse=True)
    def _on_a_tiny_backbone(self, small):
        self.options = SHORT | {"backbone": small, "refit": False}


class TestPairs(TestLora):
    """The suite for the loss on pairs, with another architecture, refitted."""

    pytestmark = pytest.mark.slow

    @pytest.fixture(autouse=True)
    def _on_a_tiny_backbone(self, qwen3):
        self.options = SHORT | {"backbone": qwen3, "loss": "bradley_terry"}
