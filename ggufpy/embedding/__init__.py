"""Texts in, vectors and scores out."""
