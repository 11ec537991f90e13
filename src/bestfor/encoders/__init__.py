"""Encoders turn texts into vectors: sentence-transformers, hidden states of any language model, and their cache."""

from bestfor.encoders.base import Encoder
from bestfor.encoders.cache import CachedEncoder
from bestfor.encoders.sentence import SentenceEncoder, load_encoder

__all__ = ["CachedEncoder", "Encoder", "SentenceEncoder", "load_encoder"]
