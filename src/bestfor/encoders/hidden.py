"""Encode texts by hidden states of any transformers checkpoint: a policy's own view of a text, for instance."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from bestfor.encoders import hub
from bestfor.encoders.batches import VERSION, Batched, Features, Vectors, tokenized
from bestfor.errors import InputError, nearest
from bestfor.extras import require
from bestfor.files import hash_text

Pooling = Literal["mean", "last"]
POOLINGS = ("mean", "last")
LIMIT = 512
BATCH_TOKENS = 256


class HiddenEncoder(Batched):
    """Pooled hidden states of a causal, masked or encoder-decoder language model (of the latter, its encoder).

    Vectors have unit length. Causal models see a text from the left only, so ``last`` is the one place that has seen
    all of it; the mean is the steadier choice for models that were never trained to summarise.

    Args:
        path: folder of the checkpoint, or a hub name.
        name: what configurations call it.
        pooling: ``mean`` over a text's tokens, or the ``last`` token.
        layer: which hidden states: -1 are the last, with the model's final norm; 0 the token embeddings.
        limit: the most tokens of a text that the model sees; a model's own limit holds too.
        device: a torch device; None takes a GPU where there is one.

    Raises:
        InputError: there is no such model here and none could be downloaded, an unknown pooling, or a layer that it
            does not have.
        MissingExtraError: transformers is not installed.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str,
        pooling: Pooling = "mean",
        layer: int = -1,
        limit: int = LIMIT,
        device: str | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise InputError("encoder pooling", f"'{pooling}'", nearest(pooling, POOLINGS))
        self._torch = require("torch", "models")
        model, self._tokenizer = _loaded(path)
        from bestfor.lm.weights import embedding_rows, has_decoder

        config = model.config.get_text_config()
        if has_decoder(model):
            model = model.get_encoder()
        self.embedding_rows = embedding_rows(model)
        self._takes = inspect.signature(model.forward).parameters
        self._device = device or ("cuda" if self._torch.cuda.is_available() else "cpu")
        self._model: Any = model.to(self._device).eval()
        self.name, self._pooling, self._layer = name, pooling, layer
        layers = int(config.num_hidden_layers)
        if not -layers - 1 <= layer <= layers:
            raise InputError("encoder layer", str(layer), f"one of the {layers + 1} from {-layers - 1} to {layers}")
        self.dim = int(config.hidden_size)
        own = getattr(config, "max_position_embeddings", None)
        self.limit = min(limit, own) if isinstance(own, int) and own > 0 else limit
        marks = f"hidden {pooling} layer={layer} limit={self.limit} batches={VERSION}"
        weights = hub.content_hash(path, self._model)
        self.signature = hash_text(f"{weights} {marks}")
        self._size_batches(BATCH_TOKENS, self._torch.device(self._device).type)
        self._share_threads(self._model, self._torch.device(self._device).type, side_by_side=layer == -1)

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - an optional library's class
        """The checkpoint's tokenizer."""
        return self._tokenizer

    def _tokens(self, texts: list[str]) -> tuple[dict[str, list[list[int]]], dict[str, int]]:
        from bestfor.lm.weights import check_tokens

        encoded, fill = tokenized(self._tokenizer, texts, self.limit, self.embedding_rows)
        for ids in encoded["input_ids"]:
            check_tokens(ids, self._model, self._tokenizer, f"encoder '{self.name}'")
        return {name: values for name, values in encoded.items() if name in self._takes}, fill

    def _vectors(self, features: Features) -> Vectors:
        torch = self._torch
        tensors = {name: torch.from_numpy(values).to(self._device) for name, values in features.items()}
        mask = tensors["attention_mask"]
        with torch.inference_mode():
            output = self._model(**tensors, output_hidden_states=self._layer != -1)
            last_layer = self._layer == -1
            states = (output.last_hidden_state if last_layer else output.hidden_states[self._layer]).float()
            if self._pooling == "last":
                pooled = states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
            else:
                weight = mask.unsqueeze(-1).to(states.dtype)
                pooled = (states * weight).sum(1) / weight.sum(1)
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        return pooled.cpu().numpy()


def _loaded(path: str) -> tuple[Any, Any]:
    """Load a model and its tokenizer."""
    library, torch = require("transformers", "models"), require("torch", "models")
    from bestfor.lm.weights import check_tokenizer, load_weights

    def load(local: bool) -> tuple[Any, Any]:
        files = {"local_files_only": local, "trust_remote_code": False}
        tokenizer = library.AutoTokenizer.from_pretrained(path, **files)
        check_tokenizer(tokenizer, f"encoder '{path}'")
        return load_weights(library.AutoModel, path, dtype=torch.float32, **files), tokenizer

    with hub.quiet():
        return hub.opened(path, "a transformers checkpoint", load)
