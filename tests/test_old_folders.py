"""Run folders and model folders of an earlier version are read; tests/fixtures/before/README.md says who wrote them."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bestfor import rewards
from bestfor.__main__ import main
from bestfor.data.candidates import Candidates
from bestfor.testing.rewards import LetterEncoder

BEFORE = Path(__file__).parent / "fixtures" / "before"
KINDS = sorted(path.name for path in (BEFORE / "models").iterdir() if path.is_dir())
SINCE = {"picks.parquet", "answers.json", ".steps/sample.json", ".steps/pick.json", ".steps/answers.json"}
"""What a run writes since then."""

ANEW = {"diagnosis.json", "report.html"}
"""What a run writes whether or not there was anything to do."""


@pytest.fixture
def before(tmp_path, monkeypatch):
    """A copy of the runs, as the working directory."""
    for name in ("ratings.csv", "ratings.toml", "histories.toml", "runs"):
        copy = shutil.copytree if (BEFORE / name).is_dir() else shutil.copy
        copy(BEFORE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bestfor(monkeypatch, capfd):
    """Call a verb that succeeds; what it says on standard error."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["bestfor", *words])
        code = main()
        said = capfd.readouterr().err
        assert code == 0, said
        return said

    return call


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in ANEW}


def numbers(value, place=""):
    """Numbers of a JSON value by their place; the sentences beside them may be worded anew."""
    if isinstance(value, int | float):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at: number for key, one in items for at, number in numbers(one, f"{place}/{key}").items()}


@pytest.mark.parametrize("name", ["ratings", "histories"])
def test_a_run_of_before_is_read_and_nothing_is_done_again(before, bestfor, name):
    folder = before / "runs" / name
    old, diagnosis = contents(folder), json.loads((folder / "diagnosis.json").read_text())
    steps = {path.stem for path in (folder / ".steps").iterdir()}
    said = bestfor("run", f"{name}.toml", "--out", f"runs/{name}")
    assert len(steps) >= 6
    assert all(f"{step}: already there" in said for step in steps)
    now = contents(folder)
    assert {path: now[path] for path in old} == old
    assert {path for path in now if path not in old and not path.startswith("embeddings/")} <= SINCE
    found, stored = numbers(json.loads((folder / "diagnosis.json").read_text())), numbers(diagnosis)
    lost = [place for place in stored if place not in found]
    # a share or an interval that the data do not carry is null now, with its reason
    assert [
        one for one in lost if not re.search(r"(^|[/_])(alpha\w*|low|high)(/\d+)?$|/(needed|users_needed)/", one)
    ] == []
    # a spread on an arbitrary scale is compared with another one than before, prices are shares of what can be won, and
    # intervals of comparisons hold for all of them at once
    anew = re.compile(r"/kappa$|/(best_n|best_fixed_n|per_user_n|stopping|comparisons)/|(^|[/_])(low|high)(/\d+)?$")
    both = [place for place in stored if place in found and not anew.search(place)]
    assert len(both) > 100
    assert {place: found[place] for place in both} == pytest.approx({place: stored[place] for place in both}, rel=1e-6)


@pytest.mark.parametrize("name", ["ratings", "histories"])
def test_the_page_of_a_run_of_before_is_written(before, bestfor, name):
    assert "report:" in bestfor("report", f"runs/{name}")
    assert "<html" in (before / "runs" / name / "report.html").read_text(encoding="utf-8")


def test_models_of_every_kind_without_a_server_lie_here():
    assert set(KINDS) == set(rewards.KINDS) - {"judge", "auto"}  # auto came later


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_before_predicts_what_it_predicted(kind):
    given = json.loads((BEFORE / "models" / "examples.json").read_text())
    columns = {name: tuple(given[name]) for name in ("users", "queries", "inputs", "texts")}
    columns |= {name: np.array(given[name]) for name in ("user", "query", "text", "candidate", "utility", "logprob")}
    encoder = LetterEncoder() if rewards.KINDS[kind].uses_encoder() else None
    estimate = rewards.load(BEFORE / "models" / kind, encoder=encoder).predict(Candidates(**columns))
    expected = json.loads((BEFORE / "models" / "rewards.json").read_text())[kind]
    np.testing.assert_allclose(estimate.mean, expected["mean"], rtol=1e-6, atol=1e-6)
    assert (estimate.std is None) == (expected["std"] is None)
    if estimate.std is not None:
        np.testing.assert_allclose(estimate.std, expected["std"], rtol=1e-6, atol=1e-6)
