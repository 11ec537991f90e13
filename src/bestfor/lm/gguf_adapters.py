"""Write users' low-rank updates as GGUF files, which llama.cpp's server loads beside the model and applies by request.

A file holds ``A`` and ``B`` of each layer under the layer's name in llama.cpp. Its own model files hold the query and
key weights of the ``llama`` architecture with the rows of each head in another order, pairs of rotary dimensions side
by side, so the rows of ``B`` there are put in that order, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import writing
from bestfor.lm.adapters import Pair
from bestfor.types import FloatArray

_PAIRED = ("llama",)
"""Architectures whose query and key rows llama.cpp keeps in pairs."""
ARCHITECTURES = (*_PAIRED, "qwen2", "qwen3", "gemma2", "gemma3")
"""Architectures by their name in config.json, which is llama.cpp's too."""


def write_gguf_adapter(layers: Mapping[str, Pair], path: Path, base: Path) -> None:
    """Write one adapter; the file is either as before or complete.

    Args:
        layers: A of shape (rank, in) and B of shape (out, rank), scaled already, by the layer's name in transformers.
        path: the file.
        base: folder of the checkpoint that it belongs to.

    Raises:
        InputError: no updates, an architecture that is not among :data:`ARCHITECTURES`, or a layer that it lacks.
        MissingExtraError: gguf is not installed.
    """
    gguf = require("gguf", "local")
    shape = json.loads((base / "config.json").read_text(encoding="utf-8"))
    kind = str(shape.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InputError(str(base), f"a model of architecture '{kind}'", f"one of {', '.join(ARCHITECTURES)}")
    if not layers:
        raise InputError("adapter", "no updates", "at least one layer's")
    ranks = {down.shape[0] for down, _ in layers.values()}
    with writing(path) as partial:
        writer = gguf.GGUFWriter(partial, kind)
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # Its scale is alpha over the rank: 1, since B is scaled already; without alpha it is 1 as well.
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(ranks.pop()) if len(ranks) == 1 else 0.0)
        for name, matrix in _tensors(gguf, layers, shape, kind).items():
            writer.add_tensor(name, matrix)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _tensors(gguf: Any, layers: Mapping[str, Pair], shape: Mapping[str, Any], kind: str) -> dict[str, FloatArray]:  # noqa: ANN401
    """Name the matrices as llama.cpp does, in float32."""
    architecture = {name: one for one, name in gguf.MODEL_ARCH_NAMES.items()}[kind]
    names = gguf.get_tensor_name_map(architecture, int(shape["num_hidden_layers"]))
    found: dict[str, FloatArray] = {}
    for layer in sorted(layers):
        name = names.get_name(layer)
        if name is None:
            raise InputError("adapter", f"an update of '{layer}'", f"layers of a {kind} model in llama.cpp")
        down, up = (matrix.detach().cpu().float().numpy() for matrix in layers[layer])
        if kind in _PAIRED and layer.endswith(("q_proj", "k_proj")):
            own = "num_attention_heads" if layer.endswith("q_proj") else "num_key_value_heads"
            up = paired_rows(up, int(shape.get(own) or shape["num_attention_heads"]))
        found[f"{name}.weight.lora_a"] = np.ascontiguousarray(down)
        found[f"{name}.weight.lora_b"] = np.ascontiguousarray(up)
    return found


def paired_rows(matrix: FloatArray, heads: int) -> FloatArray:
    """Put the rows of each head, whose halves rotate together, into pairs: shape (heads x 2 x half, columns)."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
