import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bestfor.errors import InputError
from bestfor.lm import batching
from bestfor.policies.base import Budgeted, Policy, Prompt, Sampled
from bestfor.policies.transformers import TransformersPolicy, noise_of
from support import later, tiny

_checkpoint = later("bestfor.lm.checkpoint", "torch")
torch = later("torch")
transformers = later("transformers")


GPU = pytest.mark.skipif("not torch.cuda.is_available()", reason="no GPU")


def ask(query_id, text):
    return Prompt(query_id, ({"role": "user", "content": text},))


PROMPTS = [ask("q3", "a short note"), ask("q1", "the old stone bridge runs"), ask("q2", "we"), ask("q0", "plain words")]


@pytest.fixture(scope="module")
def policy(checkpoint):
    return TransformersPolicy(checkpoint, max_new_tokens=6, chunk=3)


def teacher(policy, prompt, tokens):
    """Sum of log-probabilities by one pass over prompt and candidate, without cache, padding or neighbours."""
    ids = [*policy.checkpoint.encode(list(prompt.messages)), *tokens]
    with torch.inference_mode():
        logits = policy.checkpoint.model(input_ids=torch.tensor([ids])).logits[0].double()
    steps = torch.log_softmax(logits, dim=-1)[-len(tokens) - 1 : -1]
    return float(steps[torch.arange(len(tokens)), torch.tensor(tokens)].sum())


def raw(policy, prompts, n, **shape):
    """What the loop draws for one chunk, before it becomes text."""
    checkpoint = policy.checkpoint
    noise = np.stack([noise_of(prompt.query_id, n, policy.max_new_tokens, seed=0) for prompt in prompts])
    encoded = [checkpoint.encode(list(prompt.messages)) for prompt in prompts]
    return checkpoint.run(encoded, noise, (), **{"temperature": 1.0, "top_p": 1.0, **shape})


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("shape", [{}, {"temperature": 0.7, "top_p": 0.8}])
def test_log_probabilities_equal_a_plain_pass_over_each_candidate(checkpoint, shares, shape):
    policy = TransformersPolicy(checkpoint, max_new_tokens=6)
    assert policy.checkpoint.shares
    policy.checkpoint.shares = shares
    drawn = raw(policy, PROMPTS, 7, **shape)
    for row, prompt in enumerate(PROMPTS):
        for column in range(7):
            tokens = drawn.tokens[row, column, : drawn.count[row, column]].tolist()
            assert drawn.logprob[row, column] == pytest.approx(teacher(policy, prompt, tokens), abs=2e-3)
    assert len({drawn.tokens[0, column].tobytes() for column in range(7)}) > 3


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_precision_and_device_draws_from_the_model(checkpoint, dtype, device):
    policy = TransformersPolicy(checkpoint, max_new_tokens=6, dtype=dtype, device=device)
    reference = TransformersPolicy(checkpoint, max_new_tokens=6, device="cpu")
    assert policy.checkpoint.model.dtype == getattr(torch, dtype)
    assert policy.checkpoint.model.device.type == device
    drawn = raw(policy, PROMPTS, 5)
    for row, prompt in enumerate(PROMPTS):
        for column in range(5):
            tokens = drawn.tokens[row, column, : drawn.count[row, column]].tolist()
            slack = 2e-3 if dtype == "float32" else 0.15 * len(tokens)
            assert drawn.logprob[row, column] == pytest.approx(teacher(reference, prompt, tokens), abs=slack)


def test_prompts_are_batched_with_those_of_similar_length(checkpoint, monkeypatch):
    assert batching.buckets([5, 40, 9, 10, 21, 11]) == [[0, 2, 3], [5, 4], [1]]
    assert batching.buckets([7]) == [[0]]
    prompts = [ask(f"q{k}", "the old stone bridge runs " * k) for k in (4, 1, 9, 2)]
    policy = TransformersPolicy(checkpoint, max_new_tokens=5)
    in_buckets = raw(policy, prompts, 6)
    monkeypatch.setattr(batching, "PADDED", 1000)
    together = raw(policy, prompts, 6)
    assert np.mean((in_buckets.tokens == together.tokens).all(axis=2)) > 0.9
    same = (in_buckets.tokens == together.tokens).all(axis=2)
    assert in_buckets.logprob[same] == pytest.approx(together.logprob[same], abs=2e-3)


def test_the_base_is_loaded_once_for_all_users(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    from bestfor.policies.adapters import Example, LoraSettings, train_adapters

    loaded = []
    model = _checkpoint.AutoModelForCausalLM
    load = model.from_pretrained
    monkeypatch.setattr(model, "from_pretrained", lambda *rest, **more: loaded.append(1) or load(*rest, **more))
    examples = {user: [Example(PROMPTS[0].messages, f"{user} bridge")] for user in ("ann", "bob", "eve")}
    train_adapters(checkpoint, examples, tmp_path, LoraSettings(rank=2, steps=1))
    assert len(loaded) == 1
    policy = TransformersPolicy(checkpoint, max_new_tokens=2, adapters=tmp_path)
    for seed in range(2):
        policy.sample([Prompt(user, PROMPTS[0].messages, user) for user in examples], 2, seed=seed)
    assert len(loaded) == 2


def test_both_ways_to_run_a_model_draw_the_same_tokens(checkpoint):
    policy = TransformersPolicy(checkpoint, max_new_tokens=8)
    side_by_side = raw(policy, PROMPTS, 12)
    policy.checkpoint.shares = False
    repeated = raw(policy, PROMPTS, 12)
    # Bits differ between the two, so a draw on the very edge may too: nearly all agree.
    assert np.mean((side_by_side.tokens == repeated.tokens).all(axis=2)) > 0.95
    assert side_by_side.logprob == pytest.approx(repeated.logprob, abs=2e-3)


def test_a_prompt_is_encoded_once_however_many_candidates(checkpoint):
    policy = TransformersPolicy(checkpoint, max_new_tokens=3)
    prompts = [ask("q1", "the old stone bridge runs"), ask("q2", "the old stone bridge stands")]
    lengths = [policy.count(list(prompt.messages)) for prompt in prompts]
    fed = []
    assert policy.checkpoint.shares, "the probe, which is fed tokens of its own, is behind us"
    hook = policy.checkpoint.model.register_forward_pre_hook(
        lambda model, args, kwargs: fed.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    policy.sample(prompts, 40, seed=0)
    hook.remove()
    assert fed[0] == (2, max(lengths)), "both prompts in one pass"
    assert len(fed) == 5, "then two further tokens of 32 candidates side by side, and of the other 8"
    assert (fed[1], fed[3]) == ((2, 32), (2, 8))


@pytest.mark.parametrize("shares", [True, False])
def test_candidates_beyond_those_side_by_side_are_drawn_from_the_same_prompt(checkpoint, shares, monkeypatch):
    policy = TransformersPolicy(checkpoint, max_new_tokens=5)
    policy.checkpoint.shares = shares
    at_once = raw(policy, PROMPTS, 7)
    monkeypatch.setattr(batching, "SIDE_BY_SIDE", 3)
    in_groups = raw(policy, PROMPTS, 7)
    assert np.mean((at_once.tokens == in_groups.tokens).all(axis=2)) > 0.9
    assert in_groups.logprob == pytest.approx(at_once.logprob, abs=2e-3)
    assert in_groups.tokens.shape == (4, 7, 5)


def test_first_tokens_of_a_query_follow_the_model(policy):
    prompt = ask("many", "the quiet river")
    drawn = raw(TransformersPolicy(policy.model, max_new_tokens=1), [prompt], 4000)
    ids = policy.checkpoint.encode(list(prompt.messages))
    with torch.inference_mode():
        chances = torch.softmax(
            policy.checkpoint.model(input_ids=torch.tensor([ids])).logits[0, -1].double(), 0
        ).numpy()
    observed = np.bincount(drawn.tokens[0, :, 0], minlength=len(chances))
    often = chances * 4000 >= 5
    table = [*observed[often], observed[~often].sum()], [*chances[often] * 4000, chances[~often].sum() * 4000]
    assert often.sum() >= 3
    assert stats.chisquare(*table).pvalue > 1e-3


def test_order_and_chunked_resumption_change_nothing(policy):
    whole = policy.sample(PROMPTS, 4, seed=5)
    assert policy.sample(PROMPTS[::-1], 4, seed=5) == whole[::-1]
    ordered = sorted(PROMPTS, key=lambda prompt: prompt.query_id)
    resumed = policy.sample(ordered[3:], 4, seed=5) + policy.sample(ordered[:3], 4, seed=5)
    by_id = dict(zip([prompt.query_id for prompt in ordered[3:] + ordered[:3]], resumed, strict=True))
    assert [by_id[prompt.query_id] for prompt in PROMPTS] == whole
    assert policy.sample(PROMPTS, 4, seed=6) != whole


def test_noise_belongs_to_the_query_and_the_candidate():
    assert np.array_equal(noise_of("q", 5, 3, seed=1)[:2], noise_of("q", 2, 3, seed=1))
    distinct = [noise_of("q", 2, 3, seed=1), noise_of("r", 2, 3, seed=1), noise_of("q", 2, 3, seed=2)]
    assert len({array.tobytes() for array in distinct}) == 3


def test_candidates_say_how_they_ended(policy):
    for candidates in policy.sample(PROMPTS, 8, seed=0):
        for candidate in candidates:
            assert 1 <= candidate.tokens <= 6
            assert candidate.logprob < 0
            assert candidate.finish_reason == "length" or candidate.tokens <= 6
            assert "<eos>" not in candidate.text
            assert candidate.text == candidate.text.strip()


def test_a_stop_text_cuts_the_candidate_and_ends_it(checkpoint):
    free = TransformersPolicy(checkpoint, max_new_tokens=10).sample(PROMPTS, 12, seed=0)
    mark = next(
        c.text[1] for row in free for c in row if len(c.text) > 3 and c.text[1].isalpha() and c.text[1].isascii()
    )
    stopped = TransformersPolicy(checkpoint, max_new_tokens=10, stop=(mark,)).sample(PROMPTS, 12, seed=0)
    pairs = [(a, b) for left, right in zip(free, stopped, strict=True) for a, b in zip(left, right, strict=True)]
    hit = [(a, b) for a, b in pairs if mark in a.text]
    assert hit
    for before, after in pairs:
        assert after.text == before.text.split(mark)[0].strip()
    for before, after in hit:
        assert after.finish_reason == "stop"
        assert after.tokens <= before.tokens


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        (
            lambda: transformers.GPT2Config(
                vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=1
            ),
            True,
        ),
        (lambda: transformers.BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4, eos_token_id=1), False),
        (
            lambda: transformers.MistralConfig(
                vocab_size=320,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=6,
                max_position_embeddings=64,
                eos_token_id=1,
            ),
            False,
        ),
    ],
    ids=["learned positions", "biased positions", "sliding window"],
)
def test_other_architectures_are_sampled_correctly(tmp_path, config, shares):
    policy = TransformersPolicy(tiny.save(tmp_path, config()), max_new_tokens=5)
    assert policy.checkpoint.shares is shares
    drawn = raw(policy, PROMPTS[:2], 3)
    for row, column in np.ndindex(2, 3):
        tokens = drawn.tokens[row, column, : drawn.count[row, column]].tolist()
        assert drawn.logprob[row, column] == pytest.approx(teacher(policy, PROMPTS[row], tokens), abs=2e-3)


def test_the_signature_knows_the_weights(checkpoint, tmp_path):
    policy = TransformersPolicy(checkpoint)
    assert isinstance(policy, Policy)
    other = TransformersPolicy(tiny.save(tmp_path, seed=1))
    assert policy.signature["weights"] != other.signature["weights"]
    copy = shutil.copytree(checkpoint, tmp_path / "copy" / checkpoint.name)
    (copy / "training.json").write_text("{}")
    assert policy.signature == TransformersPolicy(copy).signature
    (copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert policy.signature != TransformersPolicy(copy).signature
    assert policy.name == checkpoint.name


@pytest.mark.parametrize("constant", ["PADDED", "SIDE_BY_SIDE"])
def test_the_signature_knows_what_decides_batches(checkpoint, monkeypatch, constant):
    before = TransformersPolicy(checkpoint).signature
    monkeypatch.setattr(batching, constant, 5)
    after = TransformersPolicy(checkpoint).signature
    assert {name for name in after if after[name] != before[name]} == {"batching"}


def test_a_chat_is_counted_as_the_model_reads_it(policy):
    assert isinstance(policy, Budgeted)
    assert policy.budget == 128 - 6
    with pytest.raises(InputError, match="max_new_tokens: found 128; expected fewer than 128, which"):
        _ = replace(policy, max_new_tokens=128).budget
    chat = list(PROMPTS[1].messages)
    assert policy.count(chat) == len(policy.checkpoint.encode(chat))


CHATML = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            CHATML,
            "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nwe<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n\n",
        ),
        (None, "be brief\n\nwe"),
    ],
    ids=["a template that knows thinking", "no template"],
)
def test_a_chat_is_read_as_its_model_was_taught(checkpoint, tmp_path, template, expected):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    if template is None:
        (copy / "chat_template.jinja").unlink()
    else:
        (copy / "chat_template.jinja").write_text(template)
    read = TransformersPolicy(copy).checkpoint
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "we"}]
    assert read.tokenizer.decode(read.encode(chat)) == expected


def test_chains_of_thought_are_taken_off_candidates():
    made = TransformersPolicy("embedded")
    assert made._sampled("hm</think> River", 5, -1.0, "stop") == Sampled("River", 5, None, "stop")
    assert made._sampled("<think>hm", 5, -1.0, "length") == Sampled("", 5, None, "thought_cut")
    assert made._sampled("River", 5, -1.0, "stop") == Sampled("River", 5, -1.0, "stop")
    assert made.notes == ("1 candidates of embedded came after a chain of thought, which was taken off",)
