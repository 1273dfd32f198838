"""What reader and writer share of GGUF's layout. Source: llama.cpp ggml/src/gguf.cpp."""

MAGIC = b"GGUF"
ALIGNMENT = "general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_KEY_BYTES = 65535
MAX_NAME_BYTES = 63
MAX_DIMENSIONS = 4


def padded(n: int, alignment: int) -> int:
    """Round `n` up to a multiple of `alignment`."""
    return -(-n // alignment) * alignment
