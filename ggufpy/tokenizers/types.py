"""What tokens are."""

from enum import IntEnum


class TokenType(IntEnum):
    """What a token is; the value is the one in the file (llama.cpp llama.h, enum llama_token_type)."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6
