"""Wrong input to runs, their parts and their changes: one line that says what, where and what was expected."""

import sys

import pytest

from bestfor.__main__ import main

RUN = """
[data]
source = "world"
users = 4
[policy]
kind = "openai"
model = "m"
n = 4
endpoint.base_url = "http://127.0.0.1:9/v1"
[[reward]]
kind = "length"
"""
FORM = "expected KEY=VALUE, such as seed=1, policy.n=8 or reward.0.tastes=8"
NO_KEY, NO_NAME = f"found no key and value; {FORM}", f"found a key that cannot be read; {FORM}"
VERBS = ["plan", "generate", "measure", "encode", "fit", "predict"]
PART = "expected i/n with i from 0 to n - 1, such as 0/4"
CHANGES = {
    "seed": NO_KEY,
    "": NO_KEY,
    "=3": NO_KEY,
    "a..b=3": NO_NAME,
    "#seed=3": NO_NAME,
    "se\nseed=3": NO_NAME,
    "[policy]=3": NO_NAME,
    '"seed=3': NO_NAME,
    "sed=1": "found unknown key 'sed'; expected 'seed' (did you mean it?)",
    "seed=x": "seed: found 'x'; expected a valid integer",
    "seed=true": "seed: found 'true'; expected a valid integer",
    "seed=[1]": "seed: found [1]; expected a valid integer",
    "seed=1979-05-27": "seed: found 1979-05-27; expected a valid integer",
    "seed=99999999999999999999": "seed: found 99999999999999999999; expected less than",
    "reward=[]": "reward: found []; expected at least 1 item",
    "reward=3": "reward: found 3; expected a list",
    "reward.7.kind=length": "found entry 7 of 'reward', which has 1; expected 0 to 0, or 1 to add one",
    "reward.lenght.x=1": "found 'lenght', which no entry of 'reward' is; expected 'length' (did you mean it?)",
    "reward.0=3": "0: found 3; expected a table",
    "policy.n.x=3": "found a key below 'n', which is 4; expected n=VALUE",
    "policy=3": "policy: found 3; expected a table",
    "policy.n=1\npolicy.fit_n=2": "n: found '1\\npolicy.fit_n=2'; expected a valid integer",
    "policy.endpoint.also=3": "also: found 3; expected a list",
    'policy.endpoint.also=["nope"]': "also: found 'nope'; expected addresses such as",
    'policy.endpoint.also=["http://127.0.0.1:9/v1/"]': "also: found 'http://127.0.0.1:9/v1' twice",
    'policy.endpoint.also=["local:smollm2"]': "also: found 'local:smollm2' among several",
    "backend=3": "backend: found 3; expected a table",
    "backend.kind=locl": "found kind 'locl'; expected 'local' (did you mean it?)",
    "backend.worker=2": "found unknown key 'worker'; expected 'workers' (did you mean it?)",
    "backend.workers=-1": "workers: found -1; expected greater than or equal to 0",
    "backend.workers=0": "workers: found 0; expected 1 or more",
    "backend.workers=true": "workers: found 'true'; expected a valid integer",
    "backend.workers=1000000": "workers: found 1000000 processes; expected",
    "backend.address=auto": "found unknown key 'address' for 'Local'",
    "backend.place=3": "place: found 3; expected a valid string",
    "backend.place=s3://": "place: found 's3://'; expected a URL of fsspec",
    "backend.place=here": "place: found 'here'; expected a URL of fsspec",
    "backend.place=nowhere://x": "place: found 'nowhere://x' (Protocol not known: nowhere); expected",
}
CALLS = [*(("run", change) for change in CHANGES), *((verb, "backend.workers=0") for verb in VERBS)]


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Calls a verb, and gives the one line with which it ends; what lies in the run's folder stays."""
    file, kept = tmp_path / "run.toml", tmp_path / "out" / "kept"
    file.write_text(RUN)
    kept.parent.mkdir()
    kept.write_text("kept")

    def call(verb, *words, out=kept.parent):
        monkeypatch.setattr(sys, "argv", ["bestfor", verb, str(file), "--out", str(out), *words])
        code = main()
        said, line = capfd.readouterr()
        assert (code, said, line.count("\n")) == (2, "", 1), line
        assert line.startswith("bestfor: ")
        assert [path.name for path in kept.parent.iterdir()] == ["kept"]
        return line

    return call


@pytest.mark.parametrize(("verb", "change"), CALLS)
def test_a_change_that_makes_no_sense_is_one_line(verb, change, refused):
    assert CHANGES[change] in refused(verb, "--set", change)


@pytest.mark.parametrize("verb", VERBS[1:])
def test_every_verb_of_a_stage_reads_its_part(verb, refused):
    assert f"--part: found '5/3'; {PART}" in refused(verb, "--part", "5/3")


@pytest.mark.parametrize("part", ["3/3", "x", "1", "-1/3", "0/0", "1/2/3", "٣/٤", "1.0/2", " "])
def test_what_is_no_part_is_one_line(part, refused):
    assert f"--part: found '{part}'; {PART}" in refused("run", "--part", part)


def test_options_that_do_not_go_together_are_one_line(refused):
    assert "--part: found --dry-run beside it" in refused("run", "--part", "0/2", "--dry-run")
    assert "--wait: found no --part beside it" in refused("run", "--wait", "3")
    for wait in ("-1", "nan", "x"):
        assert "--wait" in refused("run", "--part", "0/2", "--wait", wait)
        assert "--probe" in refused("plan", "--probe", wait)


@pytest.mark.parametrize("verb", ["run", "generate", "encode"])
def test_a_folder_that_cannot_be_made_is_one_line(verb, refused, tmp_path):
    beneath = tmp_path / "run.toml" / "out"
    line = refused(verb, out=beneath)
    assert f"{beneath}: found a folder that cannot be made (Not a directory); expected a folder that can" in line


def test_a_place_that_cannot_be_written_is_known_before_anything_is_done(refused, tmp_path):
    line = refused("run", "--set", f"backend.place=file://{tmp_path}/run.toml/shared")
    assert "[backend] place: found 'file://" in line
    assert "which cannot be written" in line


def test_a_refit_has_no_parts_and_says_so(refused, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["bestfor", "refit", "run", "--part", "0/2"])
    assert main() == 2
    assert "--part: found '0/2'; expected no part: a refit is one fit of one model" in capfd.readouterr().err
