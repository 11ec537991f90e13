"""Tiny backbones and short trainings for the tests of reward models on a language model's back."""

from contextlib import contextmanager
from functools import cache
from pathlib import Path


@cache
def words():
    """The tokenizer of the shipped policy."""
    from transformers import AutoTokenizer

    from bestfor.lm.location import locate

    return AutoTokenizer.from_pretrained(locate("embedded"))


def qwen(kind=2, **options):
    """A random decoder."""
    import transformers

    shape = {"vocab_size": len(words()), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256}
    shape |= {"pad_token_id": words().pad_token_id, "eos_token_id": words().eos_token_id, "bos_token_id": None}
    shape |= {"head_dim": 8} if kind == 3 else {}
    config = getattr(transformers, f"Qwen{kind}Config")(**{**shape, **options})
    return getattr(transformers, f"Qwen{kind}Model")(config)


def bert(**options):
    """A random encoder."""
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"vocab_size": len(words()), "max_position_embeddings": 128, "pad_token_id": words().pad_token_id}
    return BertModel(BertConfig(**{**shape, **options}))


def save(model, folder: Path, *, tokenizer=None, seed: int = 0, sharpness: float = 0.3) -> Path:
    """Save a checkpoint with weights large enough for states to differ."""
    import torch

    from bestfor.lm.loading import progress_hidden

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0.0, sharpness, generator=generator)
    with progress_hidden():
        model.save_pretrained(folder)
    (tokenizer or words()).save_pretrained(folder)
    return folder


SHORT = {
    "rank": 2,
    "user_rank": 1,
    "targets": ("q_proj", "down_proj"),
    "user_targets": ("v_proj",),
    "probe": 2,
    "rows": 256,
    "warm_up": 1,
    "epochs": 1,
    "user_epochs": 1,
    "user_rows": 64,
}
"""A training that is over at once."""


@contextmanager
def fitting(folder, examples, root, *, tell=None, tokens=None, **options):
    """A work over some examples on a backbone, ready to run."""
    import numpy as np
    import torch

    from bestfor.rewards.lora import fit as fits
    from bestfor.rewards.rows import canonical

    config = fits.Config(**{**SHORT, "backbone": folder, **options})
    backbone, ordered = fits.open_backbone(config), canonical(examples)
    pairwise = config.loss == "bradley_terry"
    centre, unit = float(np.mean(examples.utility)), float(np.std(examples.utility))
    rows = fits.encode_rows(ordered, backbone, items=config.items, pairwise=pairwise, centre=centre, unit=unit)
    states = fits.states_of(backbone, rows.packs, [{}] * len(rows.packs), tokens=config.tokens)
    standard = fits.Standardizer.of(states, backbone.device)
    device = fits.DeviceLimits(tokens or config.tokens, backbone.packs, tell or (lambda line: None))
    context = fits.TrainingContext(config, standard, device, 0)
    state = fits.FitFiles(root, fits.identity(rows, ordered, config, backbone, 0))
    with fits.attach_adapters(backbone, config) as adapted:
        yield fits.LoraFit(rows, ordered.users, adapted, context, state, torch.from_numpy(states))
