"""Convert a language model from GGUF, llama.cpp's file format, to a folder that transformers reads.

transformers reads the file and expands quantised weights to float32. Its own ``save_pretrained`` refuses to write a
model that was read so, since it cannot reverse the quantisation; the expanded weights are what is wanted here, so they
are written plainly, without a head that is tied to the embeddings.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.lm.loading import LOCAL, progress_hidden, quiet_loading, usable
from bestfor.lm.weights import check_finite, check_loaded, check_tokenizer
from bestfor.progress import Progress

WEIGHTS = "model.safetensors"
EXPECTED = "a causal language model in GGUF whose architecture and quantisation transformers reads"
MAGIC = b"GGUF"

_UNREAD = re.compile(r"rope_(freqs|factors)|\.nextn\.")
"""Tensors that are no weights of the model: tables of angles, and layers that predict further tokens."""

_DIGITS_FIRST = ("smollm",)
"""Pre-tokenizers of llama.cpp that part all digits before anything else, which transformers' conversion leaves out."""


def convert_gguf(file: Path, folder: Path, shown: str = "") -> dict[str, Any]:
    """Write configuration, tokenizer with its chat template, and weights in float32 into a folder.

    Args:
        file: the model.
        folder: exists; takes the files.
        shown: what errors and progress call the file, its path by default.

    Returns:
        Notes for the record: architecture, name and pre-tokenizer as the file says, and the versions that converted it.

    Raises:
        InputError: it is no such file, or transformers cannot read it.
        MissingExtraError: gguf is not installed.
    """
    require("gguf", "local")
    shown = shown or str(file)
    fields, head = _fields(file, shown)
    where = {**LOCAL, "gguf_file": file.name}
    # Its bar of tensors knows no switch.
    hidden = contextlib.redirect_stderr(io.StringIO())
    with Progress(f"Steps of {Path(shown).name}", 3, after=1.0) as progress:
        with usable(Path(shown), EXPECTED), progress_hidden(), quiet_loading(), hidden:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
            check_tokenizer(tokenizer, shown)
            progress.advance()
            config = AutoConfig.from_pretrained(file.parent, **where)
            if head is not None:
                config.head_dim = head  # which transformers leaves at its default for some architectures
            load: Any = AutoModelForCausalLM.from_pretrained
            found = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, info = load(file.parent, config=config, dtype=torch.float32, **found, **where)
        check_loaded(model, info, shown)
        _check_taken(model, file, shown)
        check_finite(model.named_parameters(), shown)
        progress.advance()
        if str(fields["pre"]) in _DIGITS_FIRST:
            _part_digits(tokenizer)
        tokenizer.save_pretrained(folder)
        _save_configuration(model, folder)
        _save_weights(model, folder / WEIGHTS)
        progress.advance()
    return {**fields, "transformers": version("transformers"), "gguf": version("gguf")}


def _fields(file: Path, shown: str) -> tuple[dict[str, Any], int | None]:
    """Read what the file says of itself, and the width of its attention heads where it says one."""
    reader_of = require("gguf", "local").GGUFReader
    with file.open("rb") as handle:
        if handle.read(len(MAGIC)) != MAGIC:
            raise InputError(shown, "no GGUF file", EXPECTED)
    try:
        reader = reader_of(file)
        names = {"architecture": "general.architecture", "title": "general.name", "pre": "tokenizer.ggml.pre"}
        found = {name: reader.get_field(key) for name, key in names.items()}
        fields = {name: "" if field is None else str(field.contents()) for name, field in found.items()}
        head = reader.get_field(f"{fields['architecture']}.attention.key_length")
        return fields, None if head is None else int(head.contents())
    except (ValueError, KeyError, IndexError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(shown, f"a damaged GGUF file ({reason})", EXPECTED) from error


def _check_taken(model: Any, file: Path, shown: str) -> None:  # noqa: ANN401 - transformers' own
    """Refuse a file with weights that the model has no place for: transformers leaves them out without a word."""
    tensors = require("gguf", "local").GGUFReader(file).tensors
    held = sum(int(tensor.n_elements) for tensor in tensors if not _UNREAD.search(tensor.name))
    taken = sum(tensor.numel() for tensor in _distinct(model).values())
    if held > taken:
        found = f"{held - taken} of {held} weights that transformers' {type(model).__name__} has no place for"
        raise InputError(shown, found, EXPECTED)


def _part_digits(tokenizer: Any) -> None:  # noqa: ANN401 - transformers' own
    """Part digits from everything else first, as llama.cpp does and the model was trained."""
    from tokenizers import pre_tokenizers

    inner = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    inner.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _save_configuration(model: Any, folder: Path) -> None:  # noqa: ANN401 - transformers' own
    config = json.loads(model.config.to_json_string(use_diff=False))
    for name in ("quantization_config", "_name_or_path"):
        config.pop(name, None)
    config["architectures"] = [type(model).__name__]
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    model.generation_config.save_pretrained(folder)


def _save_weights(model: Any, path: Path) -> None:  # noqa: ANN401 - transformers' own
    """Write the weights, each memory once: a tied head is made anew from the embeddings when they are read."""
    kept = {name: tensor.detach().contiguous() for name, tensor in _distinct(model).items()}
    save_file(kept, path, {"format": "pt"})
    path.chmod((path.parent / "config.json").stat().st_mode)  # the library's own files are for their owner alone


def _distinct(model: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - transformers' own
    """Weights by name, those that share memory once."""
    seen: set[int] = set()
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor
    return kept
