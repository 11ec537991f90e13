"""The built wheel is whole: installed in an environment of its own it runs the demo and diagnoses a table."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
WHERE = "import bestfor, os; print(os.path.dirname(bestfor.__file__))"


def call(*command, cwd=None):
    # The source tree may be on the path of whoever runs the tests; it must not stand in for the wheel.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # The build's own requirement is taken from this environment, so that no network is asked.
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("bestfor-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of a fresh environment that holds the wheel, and sees this environment's other packages behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    call(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "others.pth").write_text("\n".join(sorted(others)) + "\n")
    return python


def test_the_wheel_holds_all_that_is_no_code(wheel):
    source = ROOT / "src"
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name and not name.endswith(".pyc")}
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert "bestfor/assets/policy/model.safetensors" in held
    assert any(name.startswith("bestfor/report/templates/") for name in held)
    assert wanted <= held


def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    packages = installed.parent.parent
    assert str(packages) in call(installed, "-c", WHERE, cwd=tmp_path)
    script = installed.parent / "bestfor"
    found = json.loads(
        call(script, "demo", "--users", "4", "--n", "4", "--out", tmp_path / "o", "--json", cwd=tmp_path)
    )
    assert found["queries"] == 8
    assert (tmp_path / "o" / "report.html").stat().st_size > 10_000


def test_a_table_is_diagnosed_from_the_wheel(installed, tmp_path):
    rows = [f"u{u},q{u}{q},{(7 * c + u) % 5},{c % 4}" for u in range(6) for q in range(3) for c in range(8)]
    (tmp_path / "scores.csv").write_text("user,query,reward,utility\n" + "\n".join(rows) + "\n")
    found = json.loads(call(installed.parent / "bestfor", "diagnose", "scores.csv", "--json", cwd=tmp_path))
    assert found["candidates"] == len(rows)
