"""Encoders turn texts into vectors: any sentence-transformers model, and a cache keyed by content."""

from bestfor.encoders.cache import CachedEncoder
from bestfor.encoders.sentence import Encoder, SentenceEncoder, load_encoder

__all__ = ["CachedEncoder", "Encoder", "SentenceEncoder", "load_encoder"]
