"""GGUF -> tokens: the engine, its KV cache, and the `Llama` class."""
