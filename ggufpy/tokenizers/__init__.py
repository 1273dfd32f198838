"""One file per tokenizer kind, built from GGUF metadata alone."""
