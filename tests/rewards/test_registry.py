import subprocess
import sys

import pytest

from bestfor import rewards
from bestfor.errors import InputError
from bestfor.testing.rewards import LetterEncoder, taste_examples

HEADS = ("point", "gaussian", "bradley_terry", "ensemble")
OTHERS = ("hierarchical", "tastes", "similarity")
SERVED = {"judge": {"model": "m"}}
"""Kinds that ask a server, and what has to be said about it."""
LARGE = {"lora"}
"""Kinds that are large by default; their own tests build small ones."""


def quick(kind):
    return {"epochs": 2} if kind in HEADS else {}


def test_importing_rewards_imports_no_heavy_library():
    code = (
        "import sys, bestfor.rewards; print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_kinds_are_complete_and_exports_match():
    assert set(rewards.KINDS) == {
        "pooled",
        "ridge",
        *HEADS,
        *OTHERS,
        "length",
        "logprob",
        "mbr",
        "auto",
        *SERVED,
        *LARGE,
    }
    assert rewards.__all__ == sorted(rewards.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(rewards, name) for name in rewards.__all__)
    for kind, model in rewards.KINDS.items():
        assert rewards.build(kind, **SERVED.get(kind, {})).kind == kind
        assert model.Config.model_config["extra"] == "forbid"


def test_unknown_kind_names_the_nearest():
    with pytest.raises(InputError, match=r"'hierarchical' .did you mean it"):
        rewards.build("hierarchic")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"component": 3}, "unknown key 'component'.*'components'"),
        ({"components": -1}, "'components': found -1; expected greater"),
        ({"covariance": "round"}, "'covariance': found 'round'; expected 'isotropic'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        rewards.build("hierarchical", **options)


@pytest.mark.slow
def test_any_saved_model_is_loaded_by_its_folder(tmp_path):
    examples = taste_examples()
    for kind in rewards.KINDS.keys() - SERVED - LARGE:
        encoder = None if kind in ("length", "logprob") else LetterEncoder()
        rewards.build(kind, encoder=encoder, **quick(kind)).fit(examples, rng=0).save(tmp_path / kind)
        assert rewards.load(tmp_path / kind, encoder=encoder).kind == kind
    with pytest.raises(InputError, match="kind 'pooled'; expected kind 'point'"):
        rewards.Point.load(tmp_path / "pooled")


def test_strangers_are_counted_in_notes():
    examples = taste_examples(users=5)
    for kind in ("ridge", *HEADS, *OTHERS):
        model = rewards.build(kind, encoder=LetterEncoder(), **quick(kind)).fit(examples.take(examples.user < 3), rng=0)
        [note] = model.predict(examples).notes
        assert note.startswith("2 users without fit labels were served by")
        assert model.predict(examples.take(examples.user < 3)).notes == ()
        assert model.notes == []
