import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bestfor.errors import BestforError
from bestfor.rewards import Lora
from bestfor.testing.rewards import assert_same, taste_examples
from support import later
from support.lora import SHORT, fitting

_loading = later("bestfor.lm.loading", "torch")
attach = later("bestfor.rewards.lora.attach", "torch")
resume = later("bestfor.rewards.lora.resume", "torch")
torch = later("torch")


EXAMPLES = taste_examples(users=3, queries=6, candidates=4, seed=3)
OPTIONS = SHORT | {
    "rows": 16,
    "epochs": 2,
    "user_rows": 8,
    "held_out": 0.3,
    "save_every": 1,
    "rate": 0.01,
    "user_rate": 0.01,
}

TOTAL = 31
"""Steps of a fit that is not stopped, heads alone aside."""


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")
    }


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """What a fit that nobody stopped leaves."""
    folder = tmp_path_factory.mktemp("whole")
    model = Lora(backbone=small, **OPTIONS).fit(EXAMPLES, rng=0)
    assert set(model._passes.values()) != {0}
    model.save(folder)
    return folder


@pytest.mark.parametrize(
    "steps", [4, pytest.param(9, marks=pytest.mark.slow), 16, pytest.param(26, marks=pytest.mark.slow)]
)
def test_a_fit_that_was_stopped_ends_with_the_same_bytes(steps, small, whole, tmp_path, monkeypatch):
    """Stopped in the search for the passes, in users' adapters, in the adapter for everybody, and in the end."""
    step, done = torch.optim.AdamW.step, []

    def stopping(self, *args):
        step(self, *args)
        # heads alone are over at once and keep nothing
        if len(self.param_groups) > 1:
            done.append(1)
            if len(done) == steps:
                raise Stopped

    monkeypatch.setattr(torch.optim.AdamW, "step", stopping)
    with pytest.raises(Stopped):
        Lora(backbone=small, cache=tmp_path / "cache", **OPTIONS).fit(EXAMPLES, rng=0)
    left = len(list((tmp_path / "cache").rglob("*.safetensors")))
    model = Lora(backbone=small, cache=tmp_path / "cache", **OPTIONS).fit(EXAMPLES, rng=0)
    assert left > 0
    assert len(done) <= TOTAL + 2, "at most the steps of one user are taken twice"
    model.save(tmp_path / "model")
    assert hashes(tmp_path / "model") == hashes(whole)
    assert list((tmp_path / "cache").iterdir()) == [], "what was saved is not kept twice"


def test_other_settings_or_data_begin_anew(small, tmp_path):
    roots = set()
    for examples, options in (
        (EXAMPLES, {}),
        (EXAMPLES, {"rate": 0.1}),
        (EXAMPLES, {"memory": 3, "save_every": 7}),
        (replace(EXAMPLES, utility=EXAMPLES.utility + np.arange(len(EXAMPLES))), {}),
        (replace(EXAMPLES, users=("x", *EXAMPLES.users[1:])), {}),
    ):
        with fitting(small, examples, tmp_path, **options) as work:
            roots.add(work.state.identity)
    assert len(roots) == 4


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [True, False])
def test_a_torn_state_is_not_gone_on_from(adapters, small, whole, tmp_path):
    cache = tmp_path / "cache"
    Lora(backbone=small, cache=cache, **OPTIONS).fit(EXAMPLES, rng=0)
    torn = [path for path in cache.rglob("*.safetensors") if (path.parent.name == "adapters") == adapters]
    assert torn
    for path in torn:
        path.write_bytes(path.read_bytes()[:-7])
    model = Lora(backbone=small, cache=cache, **OPTIONS).fit(EXAMPLES, rng=0)
    model.save(tmp_path / "model")
    assert hashes(tmp_path / "model") == hashes(whole)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(small, whole, tmp_path, monkeypatch):
    states, calls = attach.AdaptedBackbone.states, []

    def poisoned(self, packs):
        calls.append(1)
        found = states(self, packs)
        return found * float("nan") if len(calls) == 4 else found

    monkeypatch.setattr(attach.AdaptedBackbone, "states", poisoned)
    options = {"backbone": small, "cache": tmp_path / "cache", **OPTIONS, "save_every": 1000}
    with pytest.raises(BestforError, match=r"shared.*step 2.*not finite, in queries 'q\d+', 'q\d+'") as caught:
        Lora(**options).fit(EXAMPLES, rng=0)
    assert "\n" not in str(caught.value)
    kept = next((tmp_path / "cache").rglob("*-shared.safetensors"))
    notes = json.loads(resume.FitFiles.get.__globals__["safe_open"](kept, "pt").metadata()["bestfor"])["notes"]
    assert (notes["step"], notes["done"]) == (2, False)
    model = Lora(**options).fit(EXAMPLES, rng=0)
    assert_same(model.predict(EXAMPLES), Lora.load(whole).predict(EXAMPLES))


def test_memory_that_does_not_suffice_halves_batches(qwen2, tmp_path, monkeypatch):
    told, states = [], attach.AdaptedBackbone.states

    def scarce(self, packs):
        if len(packs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return states(self, packs)

    with fitting(qwen2, EXAMPLES, tmp_path / "a", rows=100, tokens=4000) as work:
        enough, _ = work.train_shared("final", work.rows, None, work._unjudged())
    monkeypatch.setattr(attach.AdaptedBackbone, "states", scarce)
    with fitting(qwen2, EXAMPLES, tmp_path / "b", rows=100, tokens=4000, tell=told.append) as work:
        found, _ = work.train_shared("final", work.rows, None, work._unjudged())
        tokens = work.context.device.tokens
        assert tokens < 4000
    with fitting(qwen2, EXAMPLES, tmp_path / "b", rows=100, tokens=4000) as work:
        work.train_shared("final", work.rows, None, work._unjudged())
        assert work.context.device.tokens == tokens, "what did not fit is not tried again"
    assert told[0] == "Out of memory: batches hold at most 2,000 tokens from here on."
    for name, value in found.tensors().items():
        torch.testing.assert_close(value, enough.tensors()[name], rtol=1e-3, atol=1e-4)


def test_memory_for_nothing_is_an_error_in_one_line(small, monkeypatch):
    def none(self, packs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(attach.AdaptedBackbone, "states", none)
    with pytest.raises(BestforError, match=r"out of memory with .* tokens"):
        Lora(backbone=small, **OPTIONS).fit(EXAMPLES, rng=0)
    assert _loading.is_full(torch.OutOfMemoryError("x"))
    assert not _loading.is_full(RuntimeError("another"))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from bestfor.rewards import Lora
from bestfor.testing.rewards import taste_examples
kill, backbone, cache, out = int(sys.argv[1]), *sys.argv[2:5]
step, done = torch.optim.AdamW.step, []
def stopping(self, *args):
    step(self, *args)
    done.append(len(self.param_groups) > 1)
    if kill and sum(done) == kill:
        os.kill(os.getpid(), signal.SIGKILL)
torch.optim.AdamW.step = stopping
model = Lora(backbone=backbone, cache=Path(cache), **eval(sys.argv[5]))
model.fit(taste_examples(users=3, queries=6, candidates=4, seed=3), rng=0).save(Path(out))
"""


@pytest.mark.slow
def test_a_killed_process_is_gone_on_from(small, whole, tmp_path):
    for kill, expected in ((9, -signal.SIGKILL), (20, -signal.SIGKILL), (0, 0)):
        arguments = [str(kill), small, str(tmp_path / "cache"), str(tmp_path / "model"), repr(OPTIONS)]
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", KILLED, *arguments], capture_output=True, text=True
        )
        assert ended.returncode == expected, ended.stderr
    assert hashes(tmp_path / "model") == hashes(whole)
