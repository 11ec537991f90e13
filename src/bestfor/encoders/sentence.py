"""Encode texts by sentence-transformers models; a text's vector never depends on the others in the call."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from bestfor.encoders import hub, packages
from bestfor.encoders.base import Encoder
from bestfor.encoders.batches import VERSION, Batched, Features, Vectors, tokenized
from bestfor.encoders.cache import CachedEncoder
from bestfor.encoders.hub import PACKAGED
from bestfor.encoders.names import BACKENDS, HIDDEN, JOIN, STATIC, parsed
from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.files import hash_text

BATCH_TOKENS = {"torch": 256, "bfloat16": 512, "onnx": 128, "onnx-int8": 1}
"""Tokens of a batch on a CPU. 8-bit inputs are scaled by the range of the whole batch: there, each text is its own."""


class SentenceEncoder(Batched):
    """Encoder of a sentence-transformers model.

    Args:
        path: folder of the model, or a name that sentence-transformers resolves.
        name: what configurations call it.
        device: a torch device; None takes a GPU where there is one. The onnx backends always run on the CPU.
        backend: ``torch`` computes in float32; ``bfloat16`` lets linear layers take 16-bit inputs and weights (all
            else stays float32; pays on CPUs with AVX512-BF16 or AMX, and on GPUs); ``onnx`` runs the transformer by
            onnxruntime in float32, ``onnx-int8`` with 8-bit weights.

    Raises:
        InputError: there is no such model here and none could be downloaded, an unknown backend, or one that cannot
            run this model.
        MissingExtraError: sentence-transformers, or the extra ``onnx`` where it is asked for, is not installed.
    """

    def __init__(self, path: str, *, name: str, device: str | None = None, backend: str = "torch") -> None:
        if backend not in BACKENDS:
            raise InputError("encoder backend", f"'{backend}'", nearest(backend, BACKENDS))
        library = require("sentence_transformers", "models")
        self._torch = require("torch", "models")
        exported = backend.startswith("onnx")
        if exported:
            require("onnxruntime", "onnx")
            device = "cpu"

        def load(local: bool) -> Any:  # noqa: ANN401 - an optional library's class
            # shapes that differ are refused below, with their names
            more = {"ignore_mismatched_sizes": True}
            return library.SentenceTransformer(path, device=device, local_files_only=local, model_kwargs=more)

        with hub.quiet():
            self._model: Any = hub.opened(path, "a sentence-transformers model", load)
            _check_weights(self._model, path, name)
        self._model.eval()
        self.name, self.backend = name, backend
        self.dim = int(self._model.get_embedding_dimension() or 0)
        self.limit = int(self._model.max_seq_length or 512)
        self._prompt = (self._model.prompts or {}).get(self._model.default_prompt_name or "") or ""
        weights = hub.content_hash(path, self._model, f"limit={self.limit} prompt={self._prompt!r}")
        self.signature = hash_text(f"{weights} backend={backend} batches={VERSION}")
        self._size_batches(BATCH_TOKENS[backend], self._model.device.type)
        self._share_threads(self._model, self._model.device.type)
        self.embedding_rows = _embedding_rows(self._model[0])
        self._body, self._rest = self._model[0], list(self._model)[1:]
        if exported:
            from bestfor.encoders.onnx import OnnxBody

            names = list(self._tokens(["a"])[0])
            self._body = OnnxBody(self._model[0], names, weights, int8=backend == "onnx-int8")
            self.single, self.workers = True, self._torch.get_num_threads()
        elif backend == "bfloat16":
            from bestfor.encoders._bfloat16 import lower

            lower(self._model[0])

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - an optional library's class
        """The model's tokenizer."""
        return self._model.tokenizer

    def _tokens(self, texts: list[str]) -> tuple[dict[str, list[list[int]]], dict[str, int]]:
        from bestfor.lm.weights import check_tokens

        found = tokenized(
            self._model.tokenizer, [self._prompt + text for text in texts], self.limit, self.embedding_rows
        )
        for ids in found[0]["input_ids"] if self.embedding_rows is not None else ():
            check_tokens(ids, self._model[0].auto_model, self._model.tokenizer, f"encoder '{self.name}'")
        return found

    def _vectors(self, features: Features) -> Vectors:
        device = self._model.device
        tensors = {name: self._torch.from_numpy(values).to(device) for name, values in features.items()}
        with self._torch.inference_mode():
            output = self._body(tensors)
            for module in self._rest:
                output = module(output)
        return output["sentence_embedding"].float().cpu().numpy()


def _check_weights(model: Any, path: str, name: str) -> None:  # noqa: ANN401 - an optional library's class
    """Refuse a model whose transformer lacks weights: sentence-transformers says nothing of them.

    What was missing is known while a model is loaded only, so it is loaded once more; published ones are known by
    their hashes.
    """
    from bestfor.lm.loading import LOCAL
    from bestfor.lm.weights import check_finite, check_loaded, check_tokenizer

    transformer: Any = getattr(model[0], "auto_model", None)
    if name.rpartition(":")[2] in packages.PUBLISHED or not hasattr(transformer, "name_or_path"):
        return
    check_tokenizer(model.tokenizer, f"encoder '{name}'")
    if not hasattr(transformer, "peft_config"):
        more = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        _, info = type(transformer).from_pretrained(transformer.name_or_path, **LOCAL, **more)
        check_loaded(transformer, info, f"encoder '{path}'")
    check_finite(model.named_parameters(), f"encoder '{path}'")


def _embedding_rows(body: Any) -> int | None:  # noqa: ANN401 - an optional library's class
    from bestfor.lm.weights import embedding_rows

    return embedding_rows(getattr(body, "auto_model", None))


def load_encoder(
    name: str = PACKAGED, *, cache: Path | None = None, device: str | None = None, signature: str = ""
) -> CachedEncoder:
    """Find an encoder by name; the same process loads each one once.

    Args:
        name: ``all-MiniLM-L6-v2`` (taken from its installed package, no network), a folder, or a hub name; with
            ``bfloat16:``, ``onnx:`` or ``onnx-int8:`` before it, by that backend (see :class:`SentenceEncoder`); with
            ``hidden:`` or ``hidden-last:`` before it, the mean or the last of any language model's hidden states (see
            :class:`~bestfor.encoders.hidden.HiddenEncoder`); with ``static:`` before any of these, by a table of token
            vectors made from it (see :class:`~bestfor.encoders.static.StaticEncoder`). Several names with `` + ``
            between them are encoded one by one and put together (:class:`~bestfor.encoders.joined.JoinedEncoder`).
        cache: folder for embeddings; None keeps them in memory only.
        device: a torch device; None takes a GPU where there is one.
        signature: what a model was fitted with: of several tables of one ``static:`` name, that one is taken.

    Returns:
        The encoder behind its cache.

    Raises:
        InputError: the model is absent, its packaged weights are not the original ones, or its backend cannot run it.
        MissingExtraError: the extra ``models``, or ``onnx`` where it is asked for, is not installed.
    """
    wanted = signature if name.startswith(f"{STATIC}:") else ""
    given = (name, None if cache is None else str(cache), device, wanted)
    found = _load(*given)
    found.found_by = (_load, given)
    return found


@lru_cache(maxsize=8)
def _load(name: str, cache: str | None, device: str | None, signature: str = "") -> CachedEncoder:
    encoder: Encoder
    folder = None if cache is None else Path(cache)
    names = name.split(JOIN)
    if len(names) > 1 and not Path(name).exists():
        from bestfor.encoders.joined import JoinedEncoder

        parts = [_load(one.strip(), cache, device) for one in names]
        # Its parts are cached; vectors of the whole would be the same numbers once more.
        return CachedEncoder(JoinedEncoder(parts, name=name))
    kind, model = parsed(name)
    if kind == STATIC:
        from bestfor.encoders.static import open_static

        return CachedEncoder(
            open_static(model, lambda teacher: _load(teacher, None, device).encoder, signature), folder
        )
    path = packages.resolved(model)
    if kind in HIDDEN:
        from bestfor.encoders.hidden import HiddenEncoder

        encoder = HiddenEncoder(path, name=name, pooling="last" if kind == "hidden-last" else "mean", device=device)
    else:
        encoder = SentenceEncoder(path, name=name, device=device, backend=kind)
    return CachedEncoder(encoder, folder)
