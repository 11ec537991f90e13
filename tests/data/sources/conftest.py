import json

import pytest


@pytest.fixture
def save(tmp_path):
    """Write questions and outputs as the benchmark lays them out; returns both paths."""

    def write(questions, golds=None, task="LaMP_4", name="dev"):
        paths = tmp_path / f"{name}_questions.json", tmp_path / f"{name}_outputs.json"
        paths[0].write_text(json.dumps(questions, ensure_ascii=False), encoding="utf-8")
        golds = {row["id"]: "gold" for row in questions} if golds is None else golds
        rows = [{"id": key, "output": value} for key, value in golds.items()]
        paths[1].write_text(json.dumps({"task": task, "golds": rows}), encoding="utf-8")
        return paths

    return write
