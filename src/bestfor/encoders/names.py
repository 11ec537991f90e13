"""Forms of an encoder's name, and what stands in one: a backend before a colon, then a model."""

from __future__ import annotations

from pathlib import Path

from bestfor.errors import InputError, nearest

FORMS = {
    "all-MiniLM-L6-v2": ("the default, an installed package: no network", ("models", "demo")),
    "NAME or FOLDER": ("any sentence-transformers model", ("models",)),
    "bfloat16:NAME": ("the same with 16-bit linear layers", ("models",)),
    "onnx:NAME": ("the same by onnxruntime on the CPU", ("models", "onnx")),
    "onnx-int8:NAME": ("the same with 8-bit weights", ("models", "onnx")),
    "hidden:NAME": ("the mean of a language model's hidden states", ("models",)),
    "hidden-last:NAME": ("the last of a language model's hidden states", ("models",)),
    "static:NAME": ("a table of token vectors made from any of these: quick, without torch", ("static",)),
    "NAME + NAME": ("several of these, their vectors one after the other", ()),
}
"""Forms of an encoder's name: what it is, and the extras of this package that it needs."""
BACKENDS = ("torch", "bfloat16", "onnx", "onnx-int8")
HIDDEN = ("hidden", "hidden-last")
STATIC = "static"
JOIN = " + "


def parsed(name: str) -> tuple[str, str]:
    """Split an encoder's name into backend and model; a drive letter or a word that is no backend is the model's."""
    kind, colon, model = name.partition(":")
    known = (*BACKENDS, *HIDDEN, STATIC)
    if colon and kind in known:
        return kind, model
    if colon and len(kind) > 1 and not Path(name).exists():
        raise InputError("encoder", f"'{name}'", f"a backend before the colon: {nearest(kind, known)}")
    return "torch", name
