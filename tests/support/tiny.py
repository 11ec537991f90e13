"""A random causal language model with a byte-level tokenizer, small enough to be made within a test."""

from pathlib import Path

SENTENCES = [
    "the quiet river runs under the old stone bridge",
    "a short note on long roads and longer evenings",
    "we measure what we can and say what we cannot",
    "bright ideas need patient hands and plain words",
]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(vocabulary: int = 320):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<pad>")
    made.chat_template = TEMPLATE
    return made


def save(
    folder: Path, config: object | None = None, *, sharpness: float = 6.0, seed: int = 0, positions: int = 128
) -> Path:
    """Save a tiny checkpoint; sharpness scales the output so that its distribution is far from uniform."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    words = tokenizer()
    config = config or Qwen3Config(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0.0, 0.25)
        model.get_output_embeddings().weight.mul_(sharpness / 2)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
