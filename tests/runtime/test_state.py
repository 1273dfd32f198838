"""Pages are shared, copied before writing, given back; windows slide; recurrent state goes back to marks."""

from __future__ import annotations

import numpy as np
import pytest

from ggufpy.errors import ContextError
from ggufpy.gguf.types import GGMLType
from ggufpy.runtime.state import PAGE, Sequence
from ggufpy.runtime.state.pages import MARGIN, LayerShape, Pages, pages_of_window
from ggufpy.runtime.state.slots import MARKS, Slots
from ggufpy.runtime.state.store import Store

LIMIT = 4 * PAGE


def make(n_pages: int = 4, window: int | None = None) -> Pages:
    return Pages([LayerShape(2, 48, 64)], n_pages, GGMLType.F16, GGMLType.Q8_0, window)


def start(*stores: Store, limit: int = LIMIT) -> Sequence:
    return Sequence(None, [store.open() for store in stores], limit)


def grow(sequence: Sequence, n: int, *, mark: bool = False) -> None:
    sequence.reserve(n)
    sequence.begin(n)
    sequence.commit(n, mark=mark)


def pages(sequence: Sequence) -> list[int]:
    return sequence.holds[0].columns()


def test_pages_follow_the_length() -> None:
    sequence = start(make())
    for length, count in [(1, 1), (PAGE, 1), (PAGE + 1, 2), (4 * PAGE, 4)]:
        grow(sequence, length - sequence.length)
        assert len(pages(sequence)) == count
    assert sequence.rewind(PAGE) == PAGE
    assert len(pages(sequence)) == 1
    sequence.close()
    assert pages(sequence) == [] and sequence.length == 0


def test_a_full_cache_says_so() -> None:
    store = make(1)
    first, second = start(store, limit=PAGE), start(store, limit=PAGE)
    grow(first, 1)
    with pytest.raises(ContextError, match="KV cache is full"):
        second.reserve(1)
    first.close()
    grow(second, PAGE)
    with pytest.raises(ContextError, match="33 tokens do not fit into a context of 32"):
        second.reserve(1)


def test_forks_share_pages_until_one_writes() -> None:
    store = make()
    first = start(store)
    grow(first, PAGE + 5)
    second = first.fork()
    assert pages(second) == pages(first)
    grow(second, 1)
    assert pages(second)[0] == pages(first)[0] and pages(second)[1] != pages(first)[1]
    first.close()
    grow(second, 3 * PAGE - 6)
    assert len(set(pages(second))) == 4
    second.close()
    assert sorted(store.places.take() for _ in range(4)) == [0, 1, 2, 3]


def test_rewinding_a_fork_leaves_the_other_whole() -> None:
    first = start(make())
    grow(first, 2 * PAGE)
    second = first.fork()
    second.rewind(3)
    grow(second, 1)
    assert pages(second)[0] not in pages(first)
    with pytest.raises(ValueError, match="cannot rewind 4 tokens to 5"):
        second.rewind(5)


# ---- Windows ----


def test_pages_that_slid_out_of_a_window_are_given_back() -> None:
    window, step = 40, 16
    store = make(pages_of_window(window, step), window)
    sequence = start(store, limit=10_000)
    for _ in range(200):
        grow(sequence, step)
        seen = sequence.length - window
        held = [i for i, page in enumerate(pages(sequence)) if page >= 0]
        assert held[0] * PAGE <= max(seen, 0) and held[-1] == len(pages(sequence)) - 1
        assert len(set(pages(sequence)) - {-1}) == len(held)


def test_a_window_rewinds_over_its_margin_and_no_further() -> None:
    store = make(pages_of_window(40, 64), 40)
    sequence = start(store, limit=10_000)
    for _ in range(20):
        grow(sequence, 64)
    length = sequence.length
    assert sequence.rewind(length - MARGIN + 64) == length - MARGIN + 64
    assert sequence.rewind(sequence.length - MARGIN) == 0
    assert pages(sequence) == []
    grow(sequence, 64)


@pytest.mark.parametrize("step", [1, 7, 64])
def test_a_window_can_always_be_rewound_over_its_margin(step: int) -> None:
    store = make(3 * pages_of_window(40, 64), 40)
    sequence = start(store, limit=10_000)
    while sequence.length < 2 * MARGIN:
        grow(sequence, step)
        fork = sequence.fork()
        reached = max(sequence.length - MARGIN, 0)
        assert fork.rewind(reached) == reached
        fork.close()


def test_the_least_of_all_holds_counts() -> None:
    full, local = make(80), make(pages_of_window(40, 64), 40)
    sequence = start(full, local, limit=10_000)
    for _ in range(20):
        grow(sequence, 64)
    assert sequence.rewind(100) == sequence.length == 0
    assert all(hold.columns() == [] for hold in sequence.holds)


# ---- Slots ----


def write(store: Slots, sequence: Sequence) -> None:
    """What a batch does: the new state is the old one plus 1."""
    before, after = sequence.holds[0].columns()
    store._data[0][after] = store._data[0][before] + 1


def step(store: Slots, sequence: Sequence, n: int, *, mark: bool = False) -> None:
    sequence.reserve(n)
    sequence.begin(n)
    write(store, sequence)
    sequence.commit(n, mark=mark)


def state(store: Slots, sequence: Sequence) -> float:
    sequence.begin(1)
    value = float(store._data[0][sequence.holds[0].columns()[0], 0])
    sequence.undo()
    return value


def test_recurrent_state_goes_back_to_marks() -> None:
    store = Slots([3], n_seq=2)
    sequence = start(store, limit=10_000)
    for i in range(6):
        step(store, sequence, 10, mark=i % 2 == 1)
    assert (sequence.length, state(store, sequence)) == (60, 6)
    assert sequence.rewind(59) == 40
    assert state(store, sequence) == 4
    step(store, sequence, 1)
    assert (sequence.length, state(store, sequence)) == (41, 5)
    assert sequence.rewind(39) == 20 and state(store, sequence) == 2
    assert sequence.rewind(19) == 0 and state(store, sequence) == 0


def test_generated_tokens_leave_marks_now_and_then() -> None:
    store = Slots([1], n_seq=1)
    sequence = start(store, limit=10_000)
    for _ in range(1000):
        step(store, sequence, 1)
    assert sequence.rewind(999) == 960 and state(store, sequence) == 960
    assert sequence.rewind(900) == 896 and state(store, sequence) == 896


def test_an_interrupted_batch_changes_no_state() -> None:
    store = Slots([1], n_seq=1)
    sequence = start(store)
    step(store, sequence, 4)
    sequence.begin(4)
    write(store, sequence)
    sequence.undo()
    assert (sequence.length, state(store, sequence)) == (4, 1)


def test_forks_have_states_of_their_own() -> None:
    store = Slots([1], n_seq=2)
    first = start(store)
    step(store, first, 8, mark=True)
    second = first.fork()
    step(store, first, 1)
    step(store, second, 1)
    step(store, second, 1)
    assert (state(store, first), state(store, second)) == (2, 3)
    assert second.rewind(9) == 8 and state(store, second) == 1
    first.close()
    second.close()
    taken = [store.places.take() for _ in range(2 * (2 + MARKS))]
    assert sorted(taken) == list(range(len(taken)))
    assert not np.isnan(store._data[0]).any()


def test_a_forks_marks_outlive_the_text_that_made_them() -> None:
    store = Slots([1], n_seq=3)
    first = start(store)
    step(store, first, 8, mark=True)
    second = first.fork()
    step(store, second, 1)
    first.close()
    third = start(store)
    for _ in range(5):
        step(store, third, 1, mark=True)
    assert second.rewind(8) == 8 and state(store, second) == 1
