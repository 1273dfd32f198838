"""Logits to text: sampling, completions, and the transcripts that they are written in."""
