import math
import shutil

import numpy as np
import pytest
import tiny
import torch
from scipy import stats
from transformers import BloomConfig, GPT2Config, MistralConfig

from bestfor.errors import InputError
from bestfor.policies import _batching, _sampler
from bestfor.policies._sampler import Ends, Repeated, SharedPrefix, draw, run
from bestfor.policies.base import Budgeted, Policy, Prompt
from bestfor.policies.transformers import TransformersPolicy, noise_of

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


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
    assert _batching.buckets([5, 40, 9, 10, 21, 11]) == [[0, 2, 3], [5, 4], [1]]
    assert _batching.buckets([7]) == [[0]]
    prompts = [ask(f"q{k}", "the old stone bridge runs " * k) for k in (4, 1, 9, 2)]
    policy = TransformersPolicy(checkpoint, max_new_tokens=5)
    in_buckets = raw(policy, prompts, 6)
    monkeypatch.setattr(_batching, "PADDED", 1000)
    together = raw(policy, prompts, 6)
    assert np.mean((in_buckets.tokens == together.tokens).all(axis=2)) > 0.9
    same = (in_buckets.tokens == together.tokens).all(axis=2)
    assert in_buckets.logprob[same] == pytest.approx(together.logprob[same], abs=2e-3)


def test_both_ways_to_run_a_model_draw_the_same_tokens(checkpoint):
    policy = TransformersPolicy(checkpoint, max_new_tokens=8)
    side_by_side = raw(policy, PROMPTS, 12)
    policy.checkpoint.shares = False
    repeated = raw(policy, PROMPTS, 12)
    # Bits differ between the two, so a draw on the very edge may too: nearly all agree.
    assert np.mean((side_by_side.tokens == repeated.tokens).all(axis=2)) > 0.95
    assert side_by_side.logprob == pytest.approx(repeated.logprob, abs=2e-3)


@pytest.mark.parametrize("shares", [True, False])
def test_candidates_beyond_those_side_by_side_are_drawn_from_the_same_prompt(checkpoint, shares, monkeypatch):
    policy = TransformersPolicy(checkpoint, max_new_tokens=5)
    policy.checkpoint.shares = shares
    at_once = raw(policy, PROMPTS, 7)
    monkeypatch.setattr(_batching, "SIDE_BY_SIDE", 3)
    in_groups = raw(policy, PROMPTS, 7)
    assert np.mean((at_once.tokens == in_groups.tokens).all(axis=2)) > 0.9
    assert in_groups.logprob == pytest.approx(at_once.logprob, abs=2e-3)
    assert in_groups.tokens.shape == (4, 7, 5)


def test_candidates_that_end_leave_the_batch_and_change_nothing(checkpoint):
    policy = TransformersPolicy(checkpoint, max_new_tokens=12)
    model, prompts = policy.checkpoint.model, [[3, 9, 12, 40], [4, 7]]
    noise = np.random.default_rng(0).random((2, 40, 12))
    engine = SharedPrefix(model, policy.checkpoint._cache(), prompts)
    never = run(engine, noise, Ends(frozenset()), temperature=1.0, top_p=1.0)
    ends = frozenset(np.unique(never.tokens[:, :20, 3]).tolist())
    for build in (
        lambda: SharedPrefix(model, policy.checkpoint._cache(), prompts),
        lambda: Repeated(model, policy.checkpoint._cache(), prompts[0], 40),
    ):
        engine = build()
        rows = 2 if isinstance(engine, SharedPrefix) else 1
        drawn = run(engine, noise[:rows], Ends(ends), temperature=1.0, top_p=1.0)
        hits = np.isin(never.tokens[:rows], list(ends))
        expected = np.where(hits.any(axis=2), hits.argmax(axis=2) + 1, 12)
        assert np.array_equal(drawn.count, expected)
        assert np.array_equal(drawn.stopped, hits.any(axis=2))
        assert 0 < drawn.stopped.mean() < 1 or drawn.count.min() < 12
        for row, column in np.ndindex(drawn.count.shape):
            size = drawn.count[row, column]
            assert np.array_equal(drawn.tokens[row, column, :size], never.tokens[row, column, :size])


def test_draws_follow_the_softmax():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5, -3.0]])
    count = 60_000
    tokens, logprob = draw(logits, np.random.default_rng(1).random((1, count)), 1.0, 1.0)
    expected = torch.softmax(logits[0].double(), 0).numpy()
    observed = np.bincount(tokens[0], minlength=6)
    assert stats.chisquare(observed, expected * count).pvalue > 1e-3
    assert np.exp(logprob[0]) == pytest.approx(expected[tokens[0]], rel=1e-5)


def test_temperature_and_top_p_shape_the_draws_but_not_the_log_probabilities():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 5.0, 0.0]])
    count = 40_000
    tokens, logprob = draw(logits, np.random.default_rng(2).random((2, count)), 0.5, 0.9)
    hot = torch.softmax(logits[0].double() / 0.5, 0).numpy()[:2]
    observed = np.bincount(tokens[0], minlength=4)
    assert observed[2:].sum() == 0, "0.86 alone is below 0.9, 0.86 + 0.12 reaches it"
    assert stats.chisquare(observed[:2], hot / hot.sum() * count).pvalue > 1e-3
    assert set(tokens[1]) == {2}
    assert logprob[1] == pytest.approx(float(torch.log_softmax(logits[1], 0)[2]))


def test_a_uniform_next_to_one_stays_inside_the_vocabulary():
    logits = torch.tensor([[0.0, 1.0, -float("inf")]])
    tokens, logprob = draw(logits, np.array([[math.nextafter(1.0, 0.0), 0.0]]), 1.0, 1.0)
    assert tokens.tolist() == [[1, 0]]
    assert np.isfinite(logprob).all()


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    logits, noise = torch.from_numpy(rng.normal(size=(11, 9))), rng.random((11, 4))
    whole = draw(logits, noise, 1.0, 0.7)
    monkeypatch.setattr(_sampler, "BLOCK", 27)
    assert np.array_equal(whole[0], draw(logits, noise, 1.0, 0.7)[0])


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
        (GPT2Config(vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=64, eos_token_id=1), True),
        (BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4, eos_token_id=1), False),
        (
            MistralConfig(
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
    policy = TransformersPolicy(tiny.save(tmp_path, config), max_new_tokens=5)
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
    monkeypatch.setattr(_batching, constant, 5)
    after = TransformersPolicy(checkpoint).signature
    assert {name for name in after if after[name] != before[name]} == {"batching"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./no/such/folder", "no such folder"),
        ("Qwen/Qwen3-4B-not-there", "hf download Qwen/Qwen3-4B-not-there"),
        ("not a name", "no such checkpoint"),
    ],
)
def test_an_absent_checkpoint_says_how_to_get_it(model, message, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message) as caught:
        TransformersPolicy(model).sample(PROMPTS, 1, seed=0)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"without config\.json"):
        TransformersPolicy(tmp_path).sample(PROMPTS, 1, seed=0)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no usable model"):
        TransformersPolicy(tmp_path).sample(PROMPTS, 1, seed=0)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_new_tokens": 0}, {"chunk": 0}, {"stop": ("",)}],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        TransformersPolicy("embedded", **settings)


def test_torn_weights_are_named(checkpoint, tmp_path):
    torn = shutil.copytree(checkpoint, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="no usable model"):
        TransformersPolicy(torn).sample(PROMPTS, 1, seed=0)


def test_a_chat_is_counted_as_the_model_reads_it(policy):
    assert isinstance(policy, Budgeted)
    assert policy.budget == 128 - 6
    chat = list(PROMPTS[1].messages)
    assert policy.count(chat) == len(policy.checkpoint.encode(chat))


def test_unknown_dtype_and_device_are_named(checkpoint):
    with pytest.raises(InputError, match="dtype: found 'float33'"):
        TransformersPolicy(checkpoint, dtype="float33").sample(PROMPTS, 1, seed=0)
    with pytest.raises(InputError, match="device: found 'abacus'"):
        TransformersPolicy(checkpoint, device="abacus").sample(PROMPTS, 1, seed=0)


def test_prompts_that_do_not_fit_or_repeat_are_named(policy):
    with pytest.raises(InputError, match="tokens; expected at most 122, which leaves room for 6"):
        policy.sample([ask("long", "bridge " * 200)], 1, seed=0)
    with pytest.raises(InputError, match="found query 'q1' twice"):
        policy.sample([PROMPTS[1], PROMPTS[1]], 1, seed=0)


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
