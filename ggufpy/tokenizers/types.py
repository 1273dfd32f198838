"""What tokens are."""

import re
from enum import IntEnum

# The text of a token that is a byte.
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")


class TokenType(IntEnum):
    """What a token is; the value is the one in the file (llama.cpp llama.h, enum llama_token_type)."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6
