"""Pages are shared, copied before writing, and given back."""

import pytest

from ggufpy.errors import ContextError
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.cache import PAGE, KVCache, LayerShape, Sequence


def make(n_pages: int = 4) -> KVCache:
    return KVCache([LayerShape(2, 48, 64)], n_pages, GGMLType.F16, GGMLType.Q8_0)


def grow(sequence: Sequence, n: int) -> None:
    sequence.reserve(n)
    sequence.length += n


def test_pages_follow_the_length() -> None:
    sequence = Sequence(make(), 4 * PAGE)
    for length, pages in [(1, 1), (PAGE, 1), (PAGE + 1, 2), (4 * PAGE, 4)]:
        grow(sequence, length - sequence.length)
        assert len(sequence.pages) == pages
    sequence.truncate(PAGE)
    assert len(sequence.pages) == 1
    sequence.close()
    assert sequence.pages == [] and sequence.length == 0


def test_a_full_cache_says_so() -> None:
    cache = make(1)
    first, second = Sequence(cache, PAGE), Sequence(cache, PAGE)
    grow(first, 1)
    with pytest.raises(ContextError, match="KV cache is full"):
        second.reserve(1)
    first.close()
    grow(second, PAGE)
    with pytest.raises(ContextError, match="33 tokens do not fit into a context of 32"):
        second.reserve(1)


def test_forks_share_pages_until_one_writes() -> None:
    cache = make()
    first = Sequence(cache, 4 * PAGE)
    grow(first, PAGE + 5)
    second = first.fork()
    assert second.pages == first.pages
    grow(second, 1)
    assert second.pages[0] == first.pages[0] and second.pages[1] != first.pages[1]
    first.close()
    grow(second, 3 * PAGE - 6)
    assert len(set(second.pages)) == 4
    second.close()
    assert sorted(cache.take() for _ in range(4)) == [0, 1, 2, 3]


def test_truncating_a_fork_leaves_the_other_whole() -> None:
    cache = make()
    first = Sequence(cache, 4 * PAGE)
    grow(first, 2 * PAGE)
    second = first.fork()
    second.truncate(3)
    grow(second, 1)
    assert second.pages[0] not in first.pages
    with pytest.raises(ValueError, match="cannot truncate 4 tokens to 5"):
        second.truncate(5)
