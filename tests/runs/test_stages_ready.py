"""What a reward model lacks is told before anything is sampled."""

import pytest

from bestfor.errors import InputError
from bestfor.runs.config import parse_config
from bestfor.runs.run import run

LORA = {"kind": "lora", "backbone": "embedded"}
JUDGE = {"kind": "judge", "model": "m", "endpoint": {"base_url": "http://127.0.0.1:1/v1", "key_env": "NOT_SET_HERE"}}


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({**LORA, "backbone": "nowhere/at-all/here"}, "backbone 'nowhere/at-all/here'"),
        ({**LORA, "limit": 100_000}, "limit: found 100000 tokens"),
        ({**LORA, "device": "abacus"}, "device: found 'abacus'"),
        ({**LORA, "dtype": "float1"}, "dtype: found 'float1'"),
        (JUDGE, "NOT_SET_HERE"),
    ],
)
def test_nothing_is_sampled_for_a_reward_that_cannot_be_fitted(tmp_path, reward, message):
    config = parse_config(
        {
            "data": {"source": "world", "users": 2, "queries": 1},
            "split": {"min_fit": 0, "min_test": 1},
            "reward": [reward],
        },
        "run.toml",
    )
    with pytest.raises(InputError, match=message):
        run(config, tmp_path, tell=lambda line: None)
    assert not (tmp_path / "pool").exists()
