"""Texts to vectors, once per distinct text."""
