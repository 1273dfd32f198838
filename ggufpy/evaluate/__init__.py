"""Figures of merit: perplexity."""
