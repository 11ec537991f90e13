"""Encode texts as vectors: sentence-transformers, hidden states of any language model, and a cache of embeddings."""

from bestfor.encoders.base import Encoder
from bestfor.encoders.cache import CachedEncoder
from bestfor.encoders.sentence import SentenceEncoder, load_encoder

__all__ = ["CachedEncoder", "Encoder", "SentenceEncoder", "load_encoder"]
