"""Kinds are found by files, entry points and dotted paths; what is wrong with somebody's class is one line."""

import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

import bestfor as bf
from bestfor import rewards
from bestfor.errors import BestforError, InputError
from bestfor.registry import Registry, declared
from bestfor.rewards import ArrayModel, RewardModel
from bestfor.rewards.features import FeatureConfig
from bestfor.testing.rewards import LetterEncoder, RewardModelTests, taste_examples
from bestfor.types import RewardEstimate


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    pull: float = 5.0


class OwnMeans(ArrayModel):
    """Lengths as everybody likes them, and a level of each user."""

    has_std = True
    Config = Options

    def fit_rows(self, rows, utility, rng):
        x = np.array([len(text) for text in rows.text], dtype=float)
        slope = np.cov(x, utility, bias=True)[0, 1] / max(x.var(), 1e-9)
        left = utility - slope * x
        count = np.bincount(rows.user, minlength=rows.users)
        level = (np.bincount(rows.user, left, rows.users) + self.config.pull * left.mean()) / (count + self.config.pull)
        return {"slope": slope, "level": np.append(level, left.mean()), "noise": left.std() + 1e-3}

    def predict_rows(self, learned, rows):
        x = np.array([len(text) for text in rows.text], dtype=float)
        return learned["slope"] * x + learned["level"][rows.user], np.full(len(rows), float(learned["noise"]))


class OnFeatures(ArrayModel):
    Config = FeatureConfig

    def fit_rows(self, rows, utility, rng):
        eye = np.eye(rows.features.shape[1])
        return {"weights": np.linalg.solve(rows.features.T @ rows.features + eye, rows.features.T @ utility)}

    def predict_rows(self, learned, rows):
        return rows.features @ learned["weights"]


class TestOwnMeans(RewardModelTests):
    model = OwnMeans


class TestOnFeatures(RewardModelTests):
    model = OnFeatures
    options = {"components": 4}


def write(folder, body, name="theirs.py"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(body)


PLUGIN = """
import numpy as np
from bestfor.rewards import ArrayModel
class Third(ArrayModel):
    def fit_rows(self, rows, utility, rng):
        return {"mean": utility.mean()}
    def predict_rows(self, learned, rows):
        return learned["mean"] + np.array([float(len(text)) for text in rows.text])
class Other: ...
"""


def test_importing_the_package_imports_no_kind():
    code = "import sys, bestfor.rewards as r; print(sorted(m for m in sys.modules if m.startswith('bestfor.rewards.')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['bestfor.rewards.kinds']"


def test_a_file_that_declares_a_kind_is_found_without_running_it(tmp_path, monkeypatch):
    body = 'class Mine:\n    kind = "mine"\nclass Base:\n    pass\n'
    write(tmp_path / "family", "", "__init__.py")
    write(tmp_path / "family", "raise SystemExit\n" + body, "mine.py")
    write(tmp_path / "family" / "deep", "", "__init__.py")
    write(tmp_path / "family" / "deep", body.replace("mine", "deep"), "model.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Registry("family", "a thing")
    assert found.builtin == {"deep": "family.deep.model:Mine", "mine": "family.mine:Mine"}
    assert found["deep"].kind == "deep"
    write(tmp_path / "family", body, "again.py")
    with pytest.raises(BestforError, match=r"kind 'mine' stands twice: in family.again:Mine and in family.mine:Mine"):
        _ = Registry("family", "a thing").builtin


def test_only_classes_declare_kinds():
    docstrings = '"""\n    kind = "no"\n"""\nclass A:\n    """x\n\n    kind = "no"\n    """\n'
    source = docstrings + '    kind: str = "a"\n    names = ("b", "c")\n'
    assert list(declared(source, ("kind", "names"))) == [("a", "A"), ("b", "A"), ("c", "A")]
    assert list(declared("def f():\n    kind = 'no'\n", ("kind",))) == []


def test_a_dotted_kind_comes_from_the_current_directory(tmp_path, monkeypatch):
    write(tmp_path, PLUGIN, "theirs_here.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = rewards.build("theirs_here:Third")
    assert model.kind == "theirs_here:Third"
    examples = taste_examples()
    expected = model.fit(examples, rng=0).predict(examples)
    model.save(tmp_path / "model")
    with pytest.raises(
        InputError, match=r"'theirs_here:Third', which is not installed; expected its class given, load"
    ):
        bf.load_model(tmp_path / "model")
    loaded = bf.load_model(tmp_path / "model", kinds=[type(model)])
    np.testing.assert_array_equal(loaded.predict(examples).mean, expected.mean)
    for path, message in (
        (
            "absent_one:Third",
            "found kind 'absent_one:Third': no module 'absent_one'; expected a module that can be imp",
        ),
        ("theirs_here:Thirds", "no class 'Thirds' in 'theirs_here'; expected 'Third' .did you mean it"),
        ("theirs_here:Other", "which is no reward model; expected a class that inherits bestfor.rewards.ArrayModel"),
        ("theirs_here:Third()", "expected a path such as 'package.module:Class'"),
        ("../x:Third", "expected a path such as 'package.module:Class'"),
    ):
        with pytest.raises(InputError, match=message):
            rewards.build(path)


def test_a_module_that_fails_is_one_line(tmp_path, monkeypatch):
    write(tmp_path, "import nothing_of_that_name\n", "theirs_broken.py")
    write(tmp_path, "1 / 0\n", "theirs_dividing.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(
        InputError, match=r"can be imported \(ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ):
        rewards.build("theirs_broken:A")
    with pytest.raises(InputError, match=r"can be imported \(ZeroDivisionError: division by zero\)"):
        rewards.build("theirs_dividing:A")


def test_a_model_folder_imports_nothing_that_it_names(tmp_path, monkeypatch):
    write(tmp_path, "open('ran', 'w')\n" + PLUGIN, "theirs_evil.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    model = rewards.build("length").fit(taste_examples(), rng=0)
    monkeypatch.setattr(type(rewards.KINDS), "name_of", lambda self, cls: "theirs_evil:Third")
    model.save(tmp_path / "model")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(InputError, match="not installed"):
        rewards.load(tmp_path / "model")
    assert not (tmp_path / "ran").exists()


def test_entry_points_are_kinds(tmp_path, monkeypatch):
    write(tmp_path, PLUGIN.replace("class Third", "class Third_(ArrayModel): pass\nclass Third"), "theirs_installed.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        metadata.EntryPoint(name, f"theirs_installed:{cls}", "bestfor.rewards")
        for name, cls in (("third", "Third"), ("pooled", "Third"), ("strange", "Other"))
    ]
    monkeypatch.setitem(rewards.KINDS.__dict__, "installed", {one.name: one for one in points if one.name != "pooled"})
    assert set(rewards.KINDS) >= {"third", "pooled"}
    assert rewards.KINDS["pooled"] is rewards.Pooled
    examples = taste_examples()
    rewards.build("third").fit(examples, rng=0).save(tmp_path / "model")
    assert type(rewards.load(tmp_path / "model")) is rewards.KINDS["third"]
    with pytest.raises(InputError, match="kind 'strange', which is no reward model"):
        rewards.build("strange")


def test_a_class_that_moved_is_still_its_own(tmp_path):
    examples = taste_examples()
    OwnMeans().fit(examples, rng=0).save(tmp_path)
    moved = type("OwnMeans", (OwnMeans,), {"__module__": "elsewhere", "__qualname__": "OwnMeans"})
    assert moved.kind == "elsewhere:OwnMeans"
    assert isinstance(moved.load(tmp_path), moved)
    with pytest.raises(InputError, match="expected kind 'elsewhere:Another'"):
        type("Another", (OwnMeans,), {"__module__": "elsewhere", "__qualname__": "Another"}).load(tmp_path)


class Whole(ArrayModel):
    """What the faults below are put into."""

    def fit_rows(self, rows, utility, rng):
        return {"mean": utility.mean()}

    def predict_rows(self, learned, rows):
        return np.full(len(rows), float(learned["mean"]))


def faulty(**attributes):
    return type("Faulty", (Whole,), {"__qualname__": "Faulty", **attributes})


def no_init(self, **options):
    pass


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"fit_rows": lambda self, rows, utility, rng: None},
            "what fit_rows of 'Faulty' returns: found a value of type N",
        ),
        (
            {"fit_rows": lambda self, rows, utility, rng: {"a": "b"}},
            "'a': found a value of type str; expected an array of",
        ),
        ({"fit_rows": lambda self, rows, utility, rng: {"a": [[1], [1, 2]]}}, "'a': found a value of type list"),
        ({"fit_rows": lambda self, rows, utility, rng: {"a": np.nan}}, "'a': found NaN or infinity; expected finite"),
        ({"fit_rows": lambda self, rows: {}}, r"found fit_rows\(rows\); expected fit_rows\(self, rows, utility, rng\)"),
        (
            {"predict_rows": lambda self, rows: 0},
            r"found predict_rows\(rows\); expected predict_rows\(self, learned, rows",
        ),
        (
            {"predict_rows": lambda self, learned, rows: None},
            "'Faulty', mean: found a NoneType; expected an array of num",
        ),
        ({"predict_rows": lambda self, learned, rows: [0.0] * len(rows)}, "mean: found a list; expected an array"),
        (
            {"predict_rows": lambda self, learned, rows: np.array(["a"])},
            "mean: found an array of <U1; expected an array",
        ),
        (
            {"predict_rows": lambda self, learned, rows: np.zeros((len(rows), 1))},
            r"shape \(144, 1\); expected \(144,\)",
        ),
        ({"predict_rows": lambda self, learned, rows: np.zeros(3)}, r"mean: found shape \(3,\); expected \(144,\)"),
        (
            {"predict_rows": lambda self, learned, rows: np.full(len(rows), np.nan)},
            "found nan for 144 of 144 cand.*partial",
        ),
        (
            {"predict_rows": lambda self, learned, rows: (np.zeros(len(rows)),) * 3},
            "found 3 values; expected an array of",
        ),
        ({"predict_rows": lambda self, learned, rows: (np.zeros(len(rows)), None), "has_std": True}, "found no std"),
        (
            {"has_std": True},
            "predictions of 'Faulty': found no std; expected one for each candidate: the class says has_s",
        ),
        ({"predict_rows": lambda self, learned, rows: (np.zeros(len(rows)), -np.ones(len(rows)))}, "std: found -1.0"),
        (
            {"predict_rows": lambda self, learned, rows: np.full(len(rows), np.inf), "partial": True},
            "NaN where there is",
        ),
        (
            {"_predict": lambda self, rows: np.zeros(len(rows))},
            "found a value of type ndarray; expected a RewardEstimate",
        ),
        ({"__init__": no_init}, r"reward model 'Faulty': found no 'config'; expected super\(\).__init__\(config"),
        ({"Config": {"a": 1}}, "'Faulty', Config: found {'a': 1}; expected a class that inherits pydantic's BaseModel"),
        ({"scale": "utilities"}, "'Faulty', scale: found 'utilities'; expected 'utility' or 'arbitrary'"),
    ],
)
def test_what_is_wrong_in_a_class_is_one_line(attributes, message):
    examples = taste_examples()
    with pytest.raises(InputError, match=message) as caught:
        faulty(**attributes)().fit(examples, rng=0).predict(examples)
    assert "\n" not in str(caught.value)


def test_missing_methods_are_named():
    class Empty(ArrayModel): ...

    class Deep(RewardModel):
        def _fit(self, examples, rng): ...

    with pytest.raises(InputError, match=r"Empty': found no 'fit_rows'; expected a class with fit_rows, predict_rows"):
        Empty()
    with pytest.raises(InputError, match=r"Deep': found no '_predict'"):
        Deep()


def test_a_partial_class_may_have_no_reward():
    def holes(self, learned, rows):
        return np.where(np.arange(len(rows)) % 2, np.nan, 1.0), np.where(np.arange(len(rows)) % 2, np.nan, 1.0)

    examples = taste_examples()
    found = faulty(predict_rows=holes, partial=True)().fit(examples, rng=0).predict(examples)
    assert np.isnan(found.mean).sum() == len(examples) // 2
    assert isinstance(found, RewardEstimate)


def test_attributes_say_what_a_kind_can(tmp_path):
    made = {kind: rewards.build(kind, **({"model": "m"} if kind == "judge" else {})) for kind in rewards.KINDS}
    assert {kind for kind, model in made.items() if model.baseline} == {"length", "logprob"}
    assert {kind for kind, model in made.items() if not model.alone} == {"mbr"}
    assert not rewards.build("judge", model="m", mode="tournament").alone
    deaf = {"length", "logprob", "mbr", "judge", "lora"}
    assert {kind for kind, model in made.items() if not model.learns} == deaf
    without = {"ridge", "point", "bradley_terry", "similarity", "length", "logprob", "mbr", "judge"}
    assert {kind for kind, model in made.items() if not model.has_std} == without
    assert not rewards.build("lora", loss="point").has_std
    assert LetterEncoder.name == "letters"
