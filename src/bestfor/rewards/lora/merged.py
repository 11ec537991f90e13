"""Write a backbone with the adapter for everybody added to its weights: a checkpoint that other kinds can read.

``encoder = "hidden:FOLDER"`` then gives small heads the states that a reward model was tuned to have. Whoever fits
heads on the labels that tuned the backbone reads states that know these labels: tune on other labels, of other users or
of an earlier time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from bestfor.errors import InputError
from bestfor.files import writing_folder
from bestfor.lm.loading import progress_hidden

if TYPE_CHECKING:
    from bestfor.lm.adapters import Pair
    from bestfor.lm.states import Backbone


def write_merged(backbone: Backbone, layers: Mapping[str, Pair], out: Path) -> None:
    """Write a checkpoint of a backbone whose layers have an update added: W + B A.

    Args:
        backbone: the base, which is as before afterwards.
        layers: A and B, scaled, by the layer's name.
        out: the new folder.

    Raises:
        InputError: the folder is there, or a layer is not.
    """
    if out.exists():
        raise InputError(str(out), "a folder that is there", "the name of a new one")
    with backbone.lock, torch.no_grad():
        state = dict(backbone.model.state_dict())
        modules = dict(backbone.model.named_modules())
        for name, (down, up) in layers.items():
            if f"{name}.weight" not in state:
                raise InputError(f"backbone '{backbone.name}'", f"no layer '{name}'", "the adapter's own base")
            base = state[f"{name}.weight"]
            update = up.to(torch.float32).cpu() @ down.to(torch.float32).cpu()
            update = update.T if isinstance(modules[name], Conv1D) else update
            state[f"{name}.weight"] = (base.to(torch.float32).cpu() + update).to(base.dtype)
        with writing_folder(out) as partial, progress_hidden():
            backbone.model.save_pretrained(partial, state_dict=state)
            backbone.tokenizer.save_pretrained(partial)
