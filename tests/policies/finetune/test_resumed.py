"""A training that was interrupted, killed or paused ends with the bytes of one that was not."""

import json
import signal
from dataclasses import replace

import pytest

from bestfor.data import schema
from bestfor.errors import InputError
from support import later

finetune = later("bestfor.policies.finetune", "torch", "transformers")
torch = later("torch")
transformers = later("transformers")


def test_an_interrupted_training_ends_with_the_same_weights(corpus, settings, trained, tmp_path, monkeypatch):
    config = replace(settings, out=tmp_path)
    step = finetune.training.Training._one
    count = 0

    def killed(self, batch):
        nonlocal count
        count += 1
        if count > 6:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(finetune.training.Training, "_one", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune.finetune(config, [corpus])
    monkeypatch.undo()
    record = finetune.finetune(config, [corpus])
    assert record == trained[1]
    assert (tmp_path / "model.safetensors").read_bytes() == (trained[0].out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def rich(settings):
    """Everything that a training keeps beside its weights: two optimisers, averages, word dropout."""
    return replace(
        settings, optimizer="muon", average=0.5, context=0.3, hide=0.2, precision="bfloat16", steps=6, save_every=2
    )


SCRIPT = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import pyarrow.parquet as pq
from bestfor.policies.finetune import training as _training
from bestfor.policies.finetune.corpus import Corpus
from bestfor.policies.finetune.settings import Finetune, Size
from bestfor.policies.finetune import finetune

store = _training.Training._store
def killed(self):
    store(self)
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
_training.Training._store = killed
config = eval(sys.argv[1], {"Finetune": Finetune, "Size": Size, "PosixPath": Path})
finetune(config, [Corpus(pq.read_table(sys.argv[2]), sys.argv[3])])
"""


@pytest.mark.slow
def test_a_training_killed_outright_ends_with_the_same_weights(corpus, rich, forks, tmp_path):
    whole = finetune.finetune(replace(rich, out=tmp_path / "whole"), [corpus])
    table = tmp_path / "histories.parquet"
    schema.write(corpus.histories, table)
    config = replace(rich, out=tmp_path / "killed")
    code, said = forks.run(SCRIPT, repr(config), table, corpus.instruction)
    assert code == -signal.SIGKILL, said
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert json.loads((tmp_path / "killed" / "resume" / "state.json").read_text())["step"] == 4
    record = finetune.finetune(config, [corpus])
    assert record == whole
    folders = (tmp_path / "killed", tmp_path / "whole")
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1


def test_dropout_is_the_same_in_an_interrupted_training(corpus, settings, trained, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    shape = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=600)
    transformers.AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = replace(settings, init=tmp_path / "base", steps=4, save_every=2)
    whole = finetune.finetune(replace(config, out=tmp_path / "whole"), [corpus])
    finetune.finetune(replace(config, out=tmp_path / "parts", until=2), [corpus])
    torch.rand(3)
    assert finetune.finetune(replace(config, out=tmp_path / "parts"), [corpus]) == whole
    paths = [tmp_path / name / "model.safetensors" for name in ("whole", "parts")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_training_may_pause(corpus, settings, trained, tmp_path):
    config = replace(settings, out=tmp_path)
    paused = finetune.finetune(replace(config, until=4), [corpus])
    assert paused["curve"] == trained[1]["curve"][:1]
    assert finetune.finetune(config, [corpus]) == trained[1]


def test_a_state_of_other_settings_is_refused(corpus, trained):
    with pytest.raises(InputError, match="a training with other settings or data"):
        finetune.finetune(replace(trained[0], rate=1e-3), [corpus])
