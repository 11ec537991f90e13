import numpy as np
import pytest

from bestfor.encoders import Encoder, load_encoder
from bestfor.errors import InputError
from support import later

hidden = later("bestfor.encoders.hidden", "torch")
tokenizers = later("tokenizers")
torch = later("torch")
transformers = later("transformers")


WORDS = ["<pad>", "<eos>", "river", "stone", "bread", "cold", "the", "under"]
TEXTS = ["the river", "stone under the cold bread", "", "bread " * 40, "the river"]


def save(folder, model):
    torch.manual_seed(0)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<eos>")
    )
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<pad>").save_pretrained(
        folder
    )
    return str(folder)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    config = transformers.Qwen3Config(
        vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=24, max_position_embeddings=24,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("causal"), transformers.Qwen3ForCausalLM(config))


def states(folder, text, layer):
    ids = [WORDS.index(word) for word in text.split()][:24] or [0]
    with torch.no_grad():
        output = transformers.AutoModel.from_pretrained(folder)(torch.tensor([ids]), output_hidden_states=True)
    return output.hidden_states[layer][0].numpy()


@pytest.mark.parametrize(("pooling", "layer"), [("mean", -1), ("last", -1), ("mean", 1), ("last", 0)])
def test_vectors_are_pooled_hidden_states(causal, pooling, layer):
    encoder = hidden.HiddenEncoder(causal, name="h", pooling=pooling, layer=layer)
    found = encoder.encode(TEXTS)
    assert isinstance(encoder, Encoder)
    assert (encoder.dim, encoder.limit, found.shape) == (16, 24, (5, 16))
    for text, vector in zip(TEXTS, found, strict=True):
        expected = states(causal, text, layer)
        expected = expected.mean(0) if pooling == "mean" else expected[-1]
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[4])
    np.testing.assert_array_equal(encoder.encode(TEXTS[1:2]), found[1:2])


def test_names_load_both_poolings_with_their_own_signatures(causal):
    mean, last = load_encoder(f"hidden:{causal}"), load_encoder(f"hidden-last:{causal}")
    assert (mean.name, last.name) == (f"hidden:{causal}", f"hidden-last:{causal}")
    signatures = {mean.signature, last.signature, hidden.HiddenEncoder(causal, name="h", layer=1).signature}
    assert len(signatures) == 3
    np.testing.assert_allclose(np.linalg.norm(mean.encode(TEXTS), axis=1), 1.0, atol=1e-6)


def test_an_encoder_decoder_gives_its_encoder(tmp_path):
    config = transformers.T5Config(
        vocab_size=8, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    folder = save(tmp_path, transformers.T5Model(config))
    found = hidden.HiddenEncoder(folder, name="t5").encode(TEXTS)
    assert found.shape == (5, 16)
    assert np.isfinite(found).all()


def test_what_cannot_be_had_is_named(causal, tmp_path):
    with pytest.raises(InputError, match="encoder pooling: found 'max'"):
        hidden.HiddenEncoder(causal, name="h", pooling="max")
    with pytest.raises(InputError, match="encoder layer: found 3; expected one of the 3 from -3 to 2"):
        hidden.HiddenEncoder(causal, name="h", layer=3)
    with pytest.raises(InputError, match="no model in"):
        hidden.HiddenEncoder(str(tmp_path), name="h")
