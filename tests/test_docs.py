"""The documentation keeps its word: links lead somewhere, code compiles, runnable code runs, examples are valid."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

from bestfor.runs.config import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(?P<mark><!-- runnable -->\n)?```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
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


def blocks(runnable):
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start("code")) + 1
            if block["kind"] == "python" and bool(block["mark"]) >= runnable:
                found.append(pytest.param(page, line, block["code"], id=f"{name_of(page)}:{line}"))
    return found


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


@pytest.mark.parametrize(("page", "line", "code"), blocks(runnable=False))
def test_python_compiles(page, line, code):
    compile(code, f"{page}:{line}", "exec")


@pytest.mark.parametrize(("page", "line", "code"), blocks(runnable=True))
def test_runnable_python_runs(page, line, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "assert" in code, f"{page}:{line} shows nothing that could be wrong"
    exec(compile(code, f"{page}:{line}", "exec"), {"__name__": "__main__"})


def test_there_is_something_to_run():
    assert len(blocks(runnable=True)) >= 3


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=name_of)
def test_example_runs_are_valid(path):
    assert load_config(path).reward


def test_the_example_of_somebody_elses_scores(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(ROOT / "examples" / "scores.py"))
    models = left["diagnosis"].models
    assert models["personal"].per_user.collapsed.nonzero()[0].tolist() == list(range(0, 120, 4))
    assert models["judge"].quantities.alpha.value == 0
    out = capsys.readouterr().out
    assert "30 of 120 users have collapsed" in out
    assert "judge: captured" in out
    assert "<svg" in (tmp_path / "runs" / "scores" / "report.html").read_text(encoding="utf-8")


def test_theory_names_functions_that_exist():
    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    source = ROOT / "src"
    files = {path.stem: path for path in (source / "bestfor" / "diagnostics").rglob("*.py")}
    named = [one for one in re.findall(r"`(\w+)\.((?!json)\w+)`", text) if one[0] in files]
    assert len(named) > 15
    modules = {name: ".".join(path.relative_to(source).with_suffix("").parts) for name, path in files.items()}
    assert [one for one in named if not hasattr(importlib.import_module(modules[one[0]]), one[1])] == []


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
