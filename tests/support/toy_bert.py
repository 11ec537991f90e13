"""A tiny BERT on disk, with special tokens around every text, unused tokens and an unknown one."""

import tokenizers
import torch
import transformers

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [*SPECIAL, "the", "river", "stone", "bread", "cold", "##s", "under", "tax"]
CLS, SEP, UNK = WORDS.index("[CLS]"), WORDS.index("[SEP]"), WORDS.index("[UNK]")
REAL = [place for place, word in enumerate(WORDS) if word not in SPECIAL]


def toy_bert(folder, seed=0):
    """Save the model and its tokenizer; return the folder's path."""
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=24,
    )  # fmt: skip
    model = transformers.BertModel(config)
    torch.manual_seed(seed)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(folder)
    raw = tokenizers.Tokenizer(tokenizers.models.WordPiece({word: place for place, word in enumerate(WORDS)}))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)
