"""Errors that ggufpy raises for its callers to catch.

GgufpyError
├── FormatError            a file is not what it says it is: truncated, corrupt, or of another kind
├── UnsupportedModelError  a well-formed model that ggufpy does not know how to convert or run
├── TokenizerError         a vocabulary that cannot be built, or that disagrees with its checkpoint
├── ShapeError             an array of a shape that the operation does not take
├── TemplateError          a chat template that refuses the messages, or fails
├── SamplingError          logits that leave no token to draw; a ValueError
└── ContextError           more tokens than the context has room for; a ValueError, as in llama-cpp-python

A message says what is wrong, where, with which value, and what to do about it.
"""


class GgufpyError(Exception):
    """Base of all errors; commands print its message in one line and exit with status 1."""


class FormatError(GgufpyError):
    """A file is not what it says it is: truncated, corrupt, or of another kind."""


class UnsupportedModelError(GgufpyError):
    """A well-formed model that ggufpy does not know how to convert or run."""


class TokenizerError(GgufpyError):
    """A vocabulary that cannot be built, or that disagrees with its checkpoint."""


class ShapeError(GgufpyError):
    """An array of a shape that the operation does not take."""


class TemplateError(GgufpyError):
    """A chat template that refuses the messages, or fails."""


class SamplingError(GgufpyError, ValueError):
    """Logits that leave no token to draw."""


class ContextError(GgufpyError, ValueError):
    """More tokens than the context has room for."""
