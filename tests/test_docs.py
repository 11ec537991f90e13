"""The documentation keeps its word: links lead somewhere, every Python snippet runs, examples are valid."""

import importlib
import json
import math
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bestfor.data.candidates import Candidates
from bestfor.data.labels import Labels, Rated
from bestfor.rewards import Hierarchical
from bestfor.runs.config import RunConfig, load_config
from bestfor.runs.run import run

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LARGEST_PICTURE = 120_000


def name_of(path):
    return str(path.relative_to(ROOT))


def prose(page):
    """A page without its code: what looks like a link there is none."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page):
    """The headings of a page as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def snippets(page):
    """The line, the kind (``python`` or ``python no-run``) and the code of each Python snippet of a page."""
    text = page.read_text(encoding="utf-8")
    found = [(text.count("\n", 0, one.start("code")) + 1, one["kind"], one["code"]) for one in FENCE.finditer(text)]
    return [one for one in found if one[1].split(" ")[0] == "python"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    broken = []
    for picture, words, target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        if not goal.exists() or (anchor and anchor not in anchors(goal)):
            broken.append(target)
        if picture:
            assert words, f"{target} says nothing to those who cannot see it"
    assert not broken


def test_every_picture_is_shown_and_small():
    shown = {(page.parent / target).resolve() for page in PAGES for _, _, target in LINK.findall(prose(page))}
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    assert pictures
    assert [name_of(path) for path in pictures if path not in shown] == []
    assert [name_of(path) for path in pictures if path.stat().st_size >= LARGEST_PICTURE] == []


NOT_RUN = {
    "README.md": "a server of a model of 4 billion weights",
    "docs/data.md": "LongLaMP, which is downloaded",
    "docs/endpoints.md": "a server",
    "docs/finetuning.md": "a model of 4 billion weights",
    "docs/judge.md": "a server of a model of 32 billion weights",
    "docs/lora.md": "a model of 1.5 billion weights",
    "docs/pool.md": "a model of 4 billion weights",
    "docs/results/equal-tokens.md": "a policy and a reward model that were fitted for an hour",
}
"""What the one snippet of a page that is marked ``python no-run`` needs and a test does not have."""

BEFORE = ROOT / "tests" / "fixtures" / "before"


def some_scores():
    draw = np.random.default_rng(0)
    rows = [f"u{user},q{user},{draw.normal():.3f},{draw.normal():.3f}" for user in range(9) for _ in range(4)]
    Path("scores.csv").write_text("\n".join(["user,query,reward,utility", *rows]) + "\n", encoding="utf-8")


def a_log():
    draw = np.random.default_rng(0)
    lines = ["user,query,mine,theirs,chance,shown,utility"]
    for query in range(60):
        shown, rated = draw.integers(4), f"{draw.normal():.2f}"
        rows = [(draw.normal(), draw.normal(), one == shown) for one in range(4)]
        lines += [f"u{query % 12},q{query},{a:.2f},{b:.2f},.25,{int(c)},{rated if c else ''}" for a, b, c in rows]
    Path("log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def some_questions():
    asked = "Generate a title for the following abstract of a paper: "
    profile = [{"id": str(one), "title": f"On Tagging {one}", "abstract": f"We tag {one}."} for one in range(4)]
    question = {"id": "511", "input": f"{asked}We parse.", "profile": profile}
    Path("dev_questions.json").write_text(json.dumps([question]), encoding="utf-8")
    golds = [{"id": "511", "output": "On Parsing"}]
    Path("dev_outputs.json").write_text(json.dumps({"task": "LaMP_5", "golds": golds}), encoding="utf-8")


def the_class_in_a_file():
    Path("mine.py").write_text(snippets(ROOT / "docs" / "bring-your-own-model.md")[0][2], encoding="utf-8")


def a_run_of_three_folds():
    draw = np.random.default_rng(0)
    texts = [f"{'very ' * int(draw.integers(6))}plain text {one}" for one in range(18)]
    rows = [f"u{user},{text},{len(text) / 20 + draw.normal():.2f}" for user in range(12) for text in texts]
    Path("ratings.csv").write_text("\n".join(["user,text,rating", *rows]) + "\n", encoding="utf-8")
    config = {
        "name": "bowling-green",
        "data": {"source": "table", "path": "ratings.csv"},
        "split": {"by": "text", "fold": "all", "min_fit": 4, "min_test": 3},
        "reward": [{"kind": "gaussian", "components": 0}],
        "diagnosis": {"n": [1, 2]},
    }
    run(RunConfig.model_validate(config), "runs/bowling-green")
    some_questions()


def a_finished_run():
    shutil.copytree(BEFORE / "runs" / "ratings", "runs/bowling-green")


def a_fitted_model(folder="run"):
    """A model of eight users and texts, without an encoder, and its users' later labels."""
    draw = np.random.default_rng(0)
    texts = ["a short one", "another short one", "a very long answer that goes on and on", "one", "what a day", "no"]
    users = [f"u{user}" for user in range(1, 9)]
    rated = [[len(text) / 10 + draw.normal() for text in texts] for _ in users]
    examples = Candidates.of(users, ["Describe the picture"] * 8, [texts] * 8, utilities=rated)
    model = Hierarchical(components=0).fit(examples, rng=0)
    model.save(Path(folder))
    labels = Labels(rated=(Rated("Describe the picture", "no", 4.0),))
    return {"texts": texts, "model": model, "labels": labels}


def a_model_of_a_run():
    return a_fitted_model("runs/bowling-green/fold-0/models/hierarchical")


def scores_and_a_run():
    some_scores()
    shutil.copytree(BEFORE / "runs" / "ratings", "runs/demo", ignore=shutil.ignore_patterns("models"))
    return {"texts": a_fitted_model("runs/demo/models/hierarchical")["texts"], "prompt": "Describe the picture"}


PREPARED = {
    "README.md": scores_and_a_run,
    "docs/answers.md": a_fitted_model,
    "docs/bring-your-own-model.md": the_class_in_a_file,
    "docs/data.md": a_run_of_three_folds,
    "docs/logs.md": a_log,
    "docs/report.md": a_finished_run,
    "docs/rewards.md": a_model_of_a_run,
    "docs/service.md": a_fitted_model,
}
"""Files and names that a page's snippets speak of, made in the working directory."""

WITH_PYTHON = [page for page in PAGES if snippets(page)]
TAKE_LONG = ("docs/finetuning.md",)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=pytest.mark.slow if name_of(page) in TAKE_LONG else ())
        for page in WITH_PYTHON
    ],
)
def test_every_python_snippet_runs(page, monkeypatch, tmp_path, capsys):
    if any(kind == "python" and "TransformersPolicy" in code for _, kind, code in snippets(page)):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    names = {"__name__": "__main__", **(PREPARED.get(name_of(page), dict)() or {})}
    for line, kind, code in snippets(page):
        compiled = compile(code, f"{page}:{line}", "exec")
        if kind == "python":
            exec(compiled, names)


def test_few_snippets_are_not_run_and_each_for_a_reason():
    marked = {name_of(page): [kind for _, kind, _ in snippets(page) if kind != "python"] for page in WITH_PYTHON}
    assert {name: kinds for name, kinds in marked.items() if kinds} == {name: ["python no-run"] for name in NOT_RUN}
    assert sum(len(snippets(page)) for page in WITH_PYTHON) > 2 * len(NOT_RUN)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=name_of)
def test_example_runs_are_valid(path):
    assert load_config(path).reward


def test_the_example_of_somebody_elses_scores(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(ROOT / "examples" / "scores.py"))
    models = left["diagnosis"].models
    assert models["personal"].per_user.collapsed.nonzero()[0].tolist() == list(range(0, 120, 4))
    assert math.isnan(models["judge"].quantities.alpha.value)  # everybody is alike: the scale alone does not tell
    out = capsys.readouterr().out
    assert "30 of 120 users have collapsed" in out
    assert "judge: captured" in out
    assert "<svg" in (tmp_path / "runs" / "scores" / "report.html").read_text(encoding="utf-8")


def test_theory_names_functions_that_exist():
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    source = ROOT / "src"
    files = [path.relative_to(source) for path in (source / "bestfor" / "diagnostics").rglob("*.py")]
    modules = [".".join(path.with_suffix("").parts) for path in files]
    known = {path.stem for path in files}
    named = [one for one in re.findall(r"`(\w+)\.((?!json)\w+)`", text) if one[0] in known]
    assert len(named) > 15
    for stem, name in named:
        places = [importlib.import_module(module) for module in modules if module.endswith(f".{stem}")]
        assert any(hasattr(place, name) for place in places), f"{stem}.{name}"


@pytest.mark.slow
def test_captions_state_what_the_pictures_show():
    script = runpy.run_path(str(ROOT / "benchmarks" / "pictures.py"))
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    for name, draw in script["PICTURES"].items():
        start = text.index(f"(pictures/{name}.svg)")
        caption = text[start : text.index(f"`python benchmarks/pictures.py {name}`", start)]
        stated = set(re.findall(r"-?[\d.]*\d", caption))
        for what, value in draw()[1].items():
            spelled = {f"{value:.3f}", f"{value:.2f}"} | ({f"{value:.0f}"} if value.is_integer() else set())
            assert spelled & stated, (name, what, value)
