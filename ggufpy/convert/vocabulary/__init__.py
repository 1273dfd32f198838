"""A checkpoint's tokenizer files as GGUF metadata."""
