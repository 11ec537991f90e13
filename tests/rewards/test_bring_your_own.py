"""The class on the page "Bring your own reward model" is short, passes the suite, and takes part in a run."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bestfor.__main__ import main
from bestfor.testing.rewards import RewardModelTests

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "bring-your-own-model.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def word_count(tmp_path_factory):
    path = tmp_path_factory.mktemp("mine") / "word_count.py"
    path.write_text(BLOCKS[0], encoding="utf-8")
    return load(path).WordCount


def test_the_class_is_at_most_30_lines():
    lines = BLOCKS[0][BLOCKS[0].index("class ") :].rstrip().splitlines()
    assert len([line for line in lines if line.strip()]) <= 30


class TestWordCount(RewardModelTests):
    """As the page says, on the page's class."""

    @pytest.fixture(autouse=True)
    def _of_the_page(self, word_count):
        type(self).model = word_count


def test_a_run_names_it_by_module_and_class(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(BLOCKS[0], encoding="utf-8")
    draw = np.random.default_rng(0)
    lines = ["user,text,rating"]
    for number in range(30):
        text = "point " + "and so on " * int(draw.integers(1, 9)) + str(number)
        lines += [f"p{user},{text},{len(text.split()) * (-1) ** user + draw.normal():.2f}" for user in range(6)]
    Path("ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = re.search(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
    Path("run.toml").write_text(
        f'[data]\nsource = "table"\npath = "ratings.csv"\n[split]\nmin_fit = 5\nmin_test = 4\n{table}'
        '[[reward]]\nkind = "length"\n[diagnosis]\nn = [1, 2, 4]\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(sys, "argv", ["bestfor", "run", "run.toml", "--out", "out", "--json"])
    assert main() == 0
    found = json.loads(capsys.readouterr().out)["models"]
    captured = {name: model["captured"][-1] for name, model in found.items()}
    # half of these people like long texts and half short ones: length alone cannot please both
    [own] = [value for name, value in captured.items() if name != "length"]
    assert own > 0.8 > captured["length"]
