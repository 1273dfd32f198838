"""What is remembered of each text: pages of keys and values, and slots of recurrent state."""

from ggufpy.runtime.state.pages import CACHE_TYPES, PAGE, cache_type
from ggufpy.runtime.state.sequence import Sequence
from ggufpy.runtime.state.states import States

__all__ = ["CACHE_TYPES", "PAGE", "Sequence", "States", "cache_type"]
