import itertools
import json
import runpy
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from bestfor.data import schema
from bestfor.data.world import World, build
from bestfor.errors import InputError
from bestfor.lm.chat import messages
from support import later

finetune = later("bestfor.policies.finetune", "torch", "transformers")
finetune_corpus = later("bestfor.policies.finetune.corpus", "torch", "transformers")
lm_checkpoint = later("bestfor.lm.checkpoint", "torch")
safetensors_torch = later("safetensors.torch")
torch = later("torch")
training = later("bestfor.policies.finetune.training", "torch", "transformers")
transformers = later("transformers")


def test_a_few_steps_lower_the_loss(trained):
    _, record = trained
    curve = record["curve"]
    assert [point["step"] for point in curve] == [4, 8, 12]
    assert curve[-1]["held_out"] < curve[0]["held_out"] < np.log(500) + 0.5


def test_the_checkpoint_loads_like_any_other(trained):
    config, record = trained
    model = transformers.AutoModelForCausalLM.from_pretrained(config.out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(config.out)
    assert model.dtype == torch.float32
    assert safetensors_torch.load_file(config.out / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    assert model.generation_config.do_sample
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert record["weights"] == sum(weight.numel() for weight in model.parameters())
    assert json.loads((config.out / "training.json").read_text()) == record


def test_the_kept_weights_are_the_average_of_all_steps(corpus, settings, tmp_path, monkeypatch):
    seen = []
    one = finetune.training.Training._one

    def watched(self, batch):
        loss = one(self, batch)
        seen.append(self.model.model.norm.weight.detach().clone())
        return loss

    monkeypatch.setattr(finetune.training.Training, "_one", watched)
    finetune.finetune(replace(settings, out=tmp_path, average=0.5, steps=4, rate=0.1), [corpus])
    mean = torch.ones(32)
    for step, weights in enumerate(seen):
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weights
    kept = safetensors_torch.load_file(tmp_path / "model.safetensors")["model.norm.weight"]
    assert torch.equal(kept, mean.to(torch.bfloat16))
    assert not torch.equal(kept, seen[-1].to(torch.bfloat16))


def test_prompts_count_in_the_loss_as_much_as_is_asked(corpus, trained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    model = transformers.AutoModelForCausalLM.from_pretrained(trained[0].out)
    rows = finetune_corpus.encode(tokenizer, finetune_corpus.conversations([corpus], 1)[:3], 512)
    total, weight = finetune.training.weighted_loss(model, rows, context=0.25)
    expected, counted = 0.0, 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids)[None]
        logits = model(input_ids=ids).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").detach().numpy()
        shares = np.where(row.target == 1, 1.0, 0.25)[1:]
        expected, counted = expected + float(losses @ shares), counted + shares.sum()
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
    assert weight == pytest.approx(counted)


def test_hidden_words_are_those_of_prompts_only(corpus, trained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    rows = finetune_corpus.encode(tokenizer, finetune_corpus.conversations([corpus], 1)[:3], 512)
    shown = []

    class Model(torch.nn.Module):
        def forward(self, input_ids, use_cache):
            shown.append(input_ids)
            return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 4))

    inner = Model()
    model = SimpleNamespace(device="cpu", base_model=inner, get_output_embeddings=lambda: torch.nn.Linear(4, 500))
    finetune.training.weighted_loss(model, rows, hide=1.0, draw=np.random.default_rng(0))
    for row, ids in zip(rows, shown[0].numpy(), strict=True):
        ids = ids[: len(row.ids)]
        assert np.array_equal(ids == row.ids, (row.target == 1) | (row.ids == 0))


def test_an_uncased_model_reads_and_writes_lower_case(corpus, settings, tmp_path):
    config = replace(settings, out=tmp_path, size=replace(settings.size, uncased=True), steps=1)
    finetune.finetune(config, [corpus])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("The OLD Bridge")["input_ids"] == tokenizer("the old bridge")["input_ids"]
    talk = finetune_corpus.conversations([corpus], 1)[0]
    one = finetune_corpus.encode(tokenizer, [talk], 512)[0]
    assert tokenizer.decode(one.ids[one.target == 1]) == talk.items[0][1].lower() + "<|end|>"


def test_further_texts_are_measured_and_not_trained_on(corpus, settings, trained, tmp_path):
    users = sorted(set(corpus.histories["user_id"].to_pylist()))
    held = [user in users[::5] for user in corpus.histories["user_id"].to_pylist()]
    rest = finetune_corpus.Corpus(corpus.histories.filter(pa.array([not one for one in held])), corpus.instruction)
    apart = finetune_corpus.Corpus(corpus.histories.filter(pa.array(held)), corpus.instruction)
    record = finetune.finetune(
        replace(settings, out=tmp_path, held_out=0.0, init=trained[0].out, steps=1, rate=1e-6), [rest], tests=[apart]
    )
    assert record["curve"][0]["held_out"] == pytest.approx(trained[1]["curve"][-1]["held_out"], abs=5e-3)
    assert record["data"]["sha256"] == trained[1]["data"]["sha256"]


def test_the_order_of_users_changes_nothing(corpus, settings, trained, tmp_path):
    rows = corpus.histories.num_rows
    shuffled = corpus.histories.take(pa.array(np.random.default_rng(0).permutation(rows)))
    record = finetune.finetune(replace(settings, out=tmp_path), [finetune_corpus.Corpus(shuffled, corpus.instruction)])
    assert record == trained[1]
    assert (tmp_path / "model.safetensors").read_bytes() == (trained[0].out / "model.safetensors").read_bytes()


def test_training_goes_on_from_a_checkpoint(corpus, settings, trained, tmp_path):
    config = replace(settings, out=tmp_path, init=trained[0].out, steps=4, rate=1e-4)
    record = finetune.finetune(config, [corpus])
    assert record["curve"][0]["held_out"] < trained[1]["curve"][-1]["held_out"] + 0.05
    with pytest.raises(InputError, match="a causal language model"):
        finetune.finetune(replace(config, init=tmp_path / "nowhere", out=tmp_path / "other"), [corpus])


def test_targets_are_the_users_own_texts(corpus, trained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    talk = finetune_corpus.conversations([corpus], 3)[0]
    one = finetune_corpus.encode(tokenizer, [talk], 512)[0]
    found = tokenizer.decode(one.ids[one.target == 1]).split("<|end|>")
    assert [text.strip() for text in found] == [*(wrote for _, wrote in talk.items), ""]
    assert tokenizer.decode(one.ids).startswith("<|system|> Write the headline.<|end|><|user|> headline | place")


def test_long_conversations_lose_their_oldest_items(corpus, trained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    talk = finetune_corpus.conversations([corpus], 3)[0]
    whole = finetune_corpus.encode(tokenizer, [talk], 512)[0]
    short = finetune_corpus.encode(tokenizer, [talk], len(whole.ids) - 1)[0]
    found = tokenizer.decode(short.ids[short.target == 1]).split("<|end|>")
    assert [text.strip() for text in found] == [*(wrote for _, wrote in talk.items[1:]), ""]
    assert finetune_corpus.encode(tokenizer, [talk], 10) == []


QWEN3 = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


@pytest.mark.parametrize("template", [QWEN3, None], ids=["earlier turns lose their thoughts", "no template"])
def test_items_are_learned_as_asked_where_a_chat_cannot_grow(corpus, settings, trained, tmp_path, template):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    tokenizer.chat_template = template
    talk = finetune_corpus.conversations([corpus], 3)[0]
    rows = finetune_corpus.encode(tokenizer, [talk], 512)
    assert len(rows) == len(talk.items) == 3
    folder = shutil.copytree(trained[0].out, tmp_path / "other")
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    checkpoint = lm_checkpoint.Checkpoint(folder)
    for index, (row, (asked, wrote)) in enumerate(zip(rows, talk.items, strict=True)):
        chat = messages(talk.instruction, talk.items[:index][::-1], asked)
        assert row.ids[row.target == 0].tolist() == checkpoint.encode(chat), "training and sampling never differ"
        assert tokenizer.decode(row.ids[row.target == 1]) == f"{wrote}<|end|>"
    longest = finetune_corpus.encode(tokenizer, [talk], len(rows[2].ids) - 1)[2]
    assert len(longest.ids) < len(rows[2].ids), "the oldest item finds no room"
    assert finetune_corpus.encode(tokenizer, [talk], 4) == []
    record = finetune.finetune(
        replace(settings, out=tmp_path / "further", init=folder, steps=1, held_out=0.0), [corpus]
    )
    assert record["data"]["conversations"] == corpus.histories.num_rows


def test_batches_hold_every_conversation_once_within_the_budget(corpus, trained):
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained[0].out)
    rows = finetune_corpus.encode(tokenizer, finetune_corpus.conversations([corpus], 2), 512)
    first = list(finetune_corpus.batches(rows, 400, seed=0, epoch=0))
    assert sorted(index for group in first for index in group) == list(range(len(rows)))
    assert all(len(group) * max(len(rows[index].ids) for index in group) <= 400 for group in first)
    assert (
        first
        == list(finetune_corpus.batches(rows, 400, seed=0, epoch=0))
        != list(finetune_corpus.batches(rows, 400, seed=0, epoch=1))
    )


def test_the_rate_rises_then_falls(settings):
    config = replace(settings, steps=100, rate=1.0, warmup=0.1, floor=0.1)
    rates = [training.rate_at(step, config, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.55)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[-1] > 0.1


@pytest.mark.parametrize("text", ["", "Ünïcode ☃ 漢字 \U0001f986", "<|user|> no", "tabs\tand\nlines"])
def test_any_text_has_an_encoding(text):
    tokenizer = finetune_corpus.train_tokenizer(["some words", "some other words"], 300)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_a_name_is_the_same_token_wherever_it_stands():
    tokenizer = finetune_corpus.train_tokenizer(["Oakmere hosts", "in Oakmere"] * 5, 300)
    first, inner = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Oakmere", "in Oakmere"))
    assert inner[-len(first) :] == first


@pytest.mark.slow
def test_training_users_are_nobody_whom_a_demo_meets():
    outputs = {
        text for corpus in finetune.world_corpora(36, 0) for text in corpus.histories.column("output").to_pylist()
    }
    demo = set(build(World(users=20)).histories.column("output").to_pylist())
    assert len(outputs & demo) < 0.02 * len(demo)


def test_the_command_line_trains_on_a_table_and_names_bad_input(corpus, tmp_path, capsys):
    table = tmp_path / "histories.parquet"
    schema.write(corpus.histories, table)
    with pytest.raises(SystemExit) as exit:
        finetune.main(tmp_path / "out", histories=tmp_path / "absent.parquet")
    assert exit.value.code == 2
    assert "no file" in capsys.readouterr().err
    finetune.main(tmp_path / "out", histories=table, kind="headline", steps=1, tokens=512)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["settings"]["steps"] == 1
    assert record["curve"][0]["loss"] > 0


def test_the_module_runs(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "bestfor.policies.finetune")
    monkeypatch.setattr(sys, "argv", ["finetune", "--help"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("bestfor.policies.finetune", run_name="__main__")
    assert exit.value.code == 0
    assert "--histories" in capsys.readouterr().out
