"""Run a transformer as an ONNX graph by onnxruntime: on CPUs a fifth faster than torch, with 8-bit weights twice.

A graph is exported once for given weights and library versions and kept in the user's cache folder under the hash of
its bytes, so a torn or altered file is recognised and made again. Before it is kept it is compared with the model.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bestfor.encoders.hub import first_line, quiet
from bestfor.errors import InputError
from bestfor.extras import require
from bestfor.files import hash_bytes, hash_text, write_bytes
from bestfor.packages import user_cache

FORMAT = 1
OPSET = 17
SLACK = 1e-4
"""Largest difference from the model's own token vectors, relative to one plus the largest of them."""
LEAST_COSINE = 0.95
"""The same for 8-bit weights: smallest cosine between means of token vectors."""
PROBES = ((1, 8), (3, 20), (2, 64))
_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime")

Tokens = npt.NDArray[np.float32]


class OnnxBody:
    """Stand-in for a model's transformer: features in, ``token_embeddings`` added.

    Each call runs on one thread, so results do not depend on how many there are; calls may run side by side.

    Args:
        transformer: the first module of a sentence-transformers model.
        names: which of the tokenizer's arrays the transformer takes.
        key: content hash of the weights.
        int8: whether matrix products take 8-bit weights, and 8-bit inputs scaled by each call's range.
        folder: where graphs are kept; None takes the user's cache folder.

    Raises:
        InputError: the model cannot be exported, or its graph gives other vectors.
        MissingExtraError: the extra ``onnx`` is not installed.
    """

    def __init__(
        self,
        transformer: Any,  # noqa: ANN401 - an optional library's class
        names: list[str],
        key: str,
        *,
        int8: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._torch = require("torch", "models")
        self._library = require("onnxruntime", "onnx")
        require("onnx", "onnx")
        self._names = names
        place = _place(key, names, int8, folder or user_cache() / "onnx")
        graph = _kept(place)
        if graph is None:
            self._session = self._make(transformer, place, int8)
        else:
            self._session = self._open(graph)

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        """Add ``token_embeddings`` of shape (rows, length, width) to tensors of shape (rows, length)."""
        found = self._run({name: features[name].numpy() for name in self._names})
        return {**features, "token_embeddings": self._torch.from_numpy(found)}

    def _run(self, arrays: dict[str, npt.NDArray[np.int64]]) -> Tokens:
        return self._session.run(None, arrays)[0]

    def _open(self, graph: bytes) -> Any:  # noqa: ANN401 - an optional library's class
        options = self._library.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        options.log_severity_level = 3
        return self._library.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def _make(self, transformer: Any, place: Path, int8: bool) -> Any:  # noqa: ANN401 - an optional library's class
        with quiet():
            graph = _export(transformer, self._names)
            if int8:
                graph = _eight_bit(graph)
        self._session = self._open(graph)
        self._compare(transformer, int8)
        path = place / f"{hash_bytes(graph)}.onnx"
        write_bytes(path, graph)
        for stale in place.glob("*.onnx"):
            if stale != path:
                stale.unlink(missing_ok=True)
        return self._session

    def _compare(self, transformer: Any, int8: bool) -> None:  # noqa: ANN401 - an optional library's class
        for rows, length in PROBES:
            features = _probe(transformer, self._names, rows, length)
            with self._torch.inference_mode():
                expected = transformer(dict(features))["token_embeddings"].float().numpy()
            found = self._run({name: value.numpy() for name, value in features.items()})
            mask = features["attention_mask"].numpy()[:, :, None].astype(bool)
            if int8:
                ok = _cosine(np.where(mask, found, 0).sum(1), np.where(mask, expected, 0).sum(1)) >= LEAST_COSINE
            else:
                slack = SLACK * (1 + float(np.abs(expected).max()))
                ok = bool((np.abs(np.where(mask, found - expected, 0)) <= slack).all())
            if not ok:
                where = "the exported graph of the encoder"
                raise InputError(where, f"other vectors at {rows} x {length} tokens", "the model's own; use 'torch'")


def _place(key: str, names: list[str], int8: bool, folder: Path) -> Path:
    marks = [key, *names, f"format={FORMAT} opset={OPSET} int8={int8}", *(f"{one}={version(one)}" for one in _PACKAGES)]
    return folder / hash_text("\n".join(marks))[:32]


def _kept(place: Path) -> bytes | None:
    for path in sorted(place.glob("*.onnx")):
        try:
            graph = path.read_bytes()
        except OSError:
            continue
        if hash_bytes(graph) == path.stem:
            return graph
    return None


def _export(transformer: Any, names: list[str]) -> bytes:  # noqa: ANN401 - an optional library's class
    torch = require("torch", "models")
    model = transformer.auto_model

    class LastHidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *values: Any) -> Any:  # noqa: ANN401 - traced
            return self.model(**dict(zip(names, values, strict=True))).last_hidden_state

    features = _probe(transformer, names, 2, 12)
    axes = {name: {0: "rows", 1: "length"} for name in [*names, "token_embeddings"]}
    payload = io.BytesIO()
    try:
        # The tracing exporter: a second instead of ten, silent, and its plain attention is what onnxruntime fuses.
        with _plain_attention(model), torch.no_grad():
            torch.onnx.export(
                LastHidden().eval(), tuple(features.values()), payload, dynamo=False, opset_version=OPSET,
                input_names=names, output_names=["token_embeddings"], dynamic_axes=axes,
            )  # fmt: skip
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        found = f"a model that has no ONNX form ({first_line(error)})"
        raise InputError("encoder", found, "one that can be exported; use 'torch'") from error
    return payload.getvalue()


def _eight_bit(graph: bytes) -> bytes:
    onnx = require("onnx", "onnx")
    tools = require("onnxruntime.quantization", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        tools.quantize_dynamic(
            onnx.load_model_from_string(graph), target, per_channel=True, op_types_to_quantize=["MatMul"],
            weight_type=tools.QuantType.QInt8, extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )  # fmt: skip
        return target.read_bytes()


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:  # noqa: ANN401 - an optional library's class
    before = getattr(model.config, "_attn_implementation", None)
    try:
        if before is not None:
            model.set_attn_implementation("eager")
        yield
    finally:
        if before is not None:
            model.set_attn_implementation(before)


def _probe(transformer: Any, names: list[str], rows: int, length: int) -> dict[str, Any]:  # noqa: ANN401 - an optional library's class
    torch = require("torch", "models")
    vocabulary = int(transformer.auto_model.config.vocab_size)
    ids = (torch.arange(rows * length).reshape(rows, length) * 7919 + 11) % vocabulary
    mask = torch.ones_like(ids)
    # All but the first text are shorter than the batch, as texts are.
    mask[1:, length - length // 3 :] = 0
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    return {name: values[name] for name in names}


def _cosine(left: Tokens, right: Tokens) -> float:
    products = np.sum(left * right, axis=1)
    return float((products / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())
