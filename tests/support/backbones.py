"""Tiny random models, packs of random tokens, and plain scores to hold others against."""

import copy
import shutil

import numpy as np

COMMON = {"vocab_size": 1536, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = COMMON | {"intermediate_size": 24, "num_key_value_heads": 1, "max_position_embeddings": 512}
LAYERS = ["sliding_attention", "full_attention"]
KINDS = {
    "qwen2": ("Qwen2Config", LLAMA),
    "qwen3": ("Qwen3Config", LLAMA | {"head_dim": 8}),
    "gpt2": ("GPT2Config", {"vocab_size": 1536, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "mistral": ("MistralConfig", LLAMA | {"sliding_window": 8}),
    "bert": ("BertConfig", COMMON | {"intermediate_size": 24, "max_position_embeddings": 512}),
}
TARGETS = {
    "gpt2": ("h.0.attn.c_attn", "h.1.mlp.c_fc"),
    "bert": ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense"),
}
OTHERS = {
    "mamba": ("MambaConfig", {"vocab_size": 1536, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    "bloom": ("BloomConfig", {"vocab_size": 1536, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "gemma3": ("Gemma3TextConfig", LLAMA | {"head_dim": 8, "sliding_window": 8, "layer_types": LAYERS}),
    "deberta": ("DebertaV2Config", COMMON | {"intermediate_size": 24}),
    "t5": ("T5Config", {"vocab_size": 1536, "d_model": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2, "d_ff": 24}),
}
"""Without SDPA, with positions by bias, with windows in some layers, with a decoder behind an encoder."""
DECODER = ("layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.1.mlp.down_proj")


def made(name, folder):
    """A tiny random model with the embedded model's tokenizer."""
    import torch
    import transformers

    from bestfor.lm.location import locate
    from bestfor.lm.states import Backbone

    for path in locate("embedded").iterdir():
        if "token" in path.name or "template" in path.name:
            shutil.copy(path, folder)
    kind, options = (KINDS | OTHERS)[name]
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(getattr(transformers, kind)(**options))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    return Backbone(str(folder))


def packs_of(shapes, seed=0):
    """Packs of random tokens: (prompt length, text lengths) each."""
    from bestfor.lm.packing import Pack

    draw = np.random.default_rng(seed)

    def tokens(length):
        return tuple(draw.integers(5, 1536, length).tolist())

    return [
        Pack(tokens(prompt), tuple(tokens(size) for size in sizes), np.arange(len(sizes))) for prompt, sizes in shapes
    ]


def visible(layout):
    """Whether a token (second axis) sees another one (third): the prompt and its own text before it."""
    from bestfor.lm.packing import PROMPT

    t = layout.owner.shape[1]
    before = np.tril(np.ones((t, t), dtype=np.bool_))
    own = layout.owner[:, :, None] == layout.owner[:, None, :]
    prompt = (layout.owner == PROMPT)[:, None, :]
    read = (own | prompt) & before & layout.seen[:, None, :] & layout.seen[:, :, None]
    return read | np.eye(t, dtype=np.bool_)


def adapter(model, name, seed, rank=2):
    """A random update of some layers."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    found = {}
    for layer in TARGETS.get(name, DECODER)[: 1 + seed % 3]:
        shape = model.get_submodule(layer).weight.shape
        out, into = reversed(shape) if name == "gpt2" else shape
        found[layer] = (
            torch.randn(rank, into, generator=draw) / 4,
            torch.randn(out, rank, generator=draw) / 4,
        )
    return found


def plain(backbone, name, packs, adapters):
    """One pair at a time through a model into whose weights W + B A was written."""
    import torch

    found = []
    for pack, worn in zip(packs, adapters, strict=True):
        model = copy.deepcopy(backbone.model)
        for layer, (down, up) in worn.items():
            update = up @ down
            model.get_submodule(layer).weight.data += update.T if name == "gpt2" else update
        for text in pack.texts:
            ids = torch.tensor([[*pack.prompt, *text]])
            with torch.no_grad():
                if name == "bert":
                    kinds = torch.tensor([[0] * len(pack.prompt) + [1] * len(text)])
                    found.append(model(ids, token_type_ids=kinds).last_hidden_state[0].mean(0).numpy())
                else:
                    found.append(model(ids).last_hidden_state[0, -1].numpy())
    return np.array(found)


def start_of(patch, start):
    """Let passes cost so many tokens beyond their own."""
    from bestfor.lm.passes import Costs

    patch.setattr(Costs, "of", lambda backbone: Costs(attention=0.1, start=start))


def only(patch, way):
    """Let another way than this one cost too much."""
    from bestfor.lm.passes import Costs

    plain = Costs.ways

    def ways(*args):
        return {name: (cost if name == way else 1e9 + cost, chunk) for name, (cost, chunk) in plain(*args).items()}

    patch.setattr(Costs, "ways", ways)


RAGGED = [(5, [3, 1, 4]), (11, [6]), (2, [2, 2]), (0, [3, 5]), (11, [9, 1, 1, 2, 7])]
