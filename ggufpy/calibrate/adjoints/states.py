"""Adjoints of what has a state from token to token, backwards in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ggufpy.calibrate.adjoints.passed import Array, Gradients, Passed
from ggufpy.graph import nodes as n

_SEGMENT = 32  # tokens whose states are in memory at once


def conv(passed: Passed, node: n.Conv, g: Array) -> Gradients:
    """Each channel's weights, the other way round."""
    weight, tokens = passed.weight(node.tensor), len(g)
    made = np.zeros_like(g)
    for j in range(node.size):
        ahead = node.size - 1 - j
        if ahead < tokens:
            made[: tokens - ahead] += g[ahead:] * weight[:, j]
    yield node.x, made


def scan(passed: Passed, node: n.Scan, g: Array) -> Gradients:
    """Where a head's state fades as one, all tokens at once."""
    fades_as_one = passed.weight(node.a).shape[1] == 1
    return (_scan_at_once if fades_as_one else _scan_by_token)(passed, node, g)


def _scan_at_once(passed: Passed, node: n.Scan, g: Array) -> Gradients:
    """As y = M (dt x) with M = fade(t, s) c(t) b(s)^T for s <= t: Mamba 2's dual form, head by head."""
    x, dt, a = passed[node.x], passed[node.dt], passed.weight(node.a)[:, 0]
    b, c, added, g = (_by_head(each) for each in (passed[node.b], passed[node.c], dt[..., None] * x, g))
    of_added, of_b, of_c = np.empty_like(added), np.zeros_like(b), np.zeros_like(c)
    age = np.cumsum(dt * a, axis=0, dtype=np.float64)
    of_age = np.empty_like(age)
    for head in range(len(added)):
        group = head * len(b) // len(added)
        fade = np.tril((age[:, None, head] - age[:, head]).astype(x.dtype))
        fade = np.tril(np.exp(fade, out=fade))
        mixed = fade * (c[group] @ b[group].T)
        of_mixed = g[head] @ added[head].T
        of_added[head] = mixed.T @ g[head]
        of_products = of_mixed * fade
        of_b[group] += of_products.T @ c[group]
        of_c[group] += of_products @ b[group]
        fading = of_mixed * mixed
        np.fill_diagonal(fading, 0)  # a token's own state has not faded: both sums would have it
        of_age[:, head] = fading.sum(axis=1) - fading.sum(axis=0)
    of_faded = np.cumsum(of_age[::-1], axis=0)[::-1].astype(x.dtype)
    of_added = _by_head(of_added)
    yield node.x, of_added * dt[..., None]
    yield node.dt, (of_added * x).sum(axis=-1) + of_faded * a
    yield node.b, _by_head(of_b)
    yield node.c, _by_head(of_c)


def _by_head(x: Array) -> Array:
    """With its first two axes the other way round."""
    return np.ascontiguousarray(x.swapaxes(0, 1))


def _scan_by_token(passed: Passed, node: n.Scan, g: Array) -> Gradients:
    """The state's own gradient decays as the state did."""
    x, dt, a = passed[node.x], passed[node.dt], passed.weight(node.a).astype(g.dtype)
    heads, groups = x.shape[1], node.b.shape[0]
    b, c = (np.repeat(passed[value], heads // groups, axis=1) for value in (node.b, node.c))

    def decay(i: int) -> Array:
        factor: Array = np.exp(dt[i][:, None] * a)[:, None]
        return factor

    def after(i: int, state: Array) -> Array:
        later: Array = state * decay(i) + (dt[i][:, None] * x[i])[..., None] * b[i][:, None]
        return later

    of_x, of_dt, of_b, of_c = np.empty_like(x), np.empty_like(dt), np.empty_like(b), np.empty_like(c)
    state = np.zeros((*x.shape[1:], b.shape[-1]), g.dtype)
    of_state = np.zeros_like(state)
    for i, before, now in _backwards(len(x), state, after):
        of_state += g[i][..., None] * c[i][:, None]
        of_c[i] = (g[i][:, None] @ now)[:, 0]
        of_added = (of_state @ b[i][..., None])[..., 0]  # (heads, n)
        of_x[i] = of_added * dt[i][:, None]
        of_b[i] = ((dt[i][:, None] * x[i])[:, None] @ of_state)[:, 0]
        of_state *= decay(i)
        faded = np.einsum("hnm,hnm->hm", of_state, before) * a
        of_dt[i] = (of_added * x[i]).sum(axis=-1) + faded.sum(axis=-1)
    yield node.x, of_x
    yield node.dt, of_dt
    for value, made in ((node.b, of_b), (node.c, of_c)):
        yield value, made.reshape(len(x), groups, -1, b.shape[-1]).sum(axis=2)


def delta_rule(passed: Passed, node: n.DeltaRule, g: Array) -> Gradients:
    """Through what was read, what was written, what was there before, and how it had decayed."""
    v, beta, decay = passed[node.v], passed[node.beta], np.exp(passed[node.decay])
    times = v.shape[1] // node.q.shape[0]
    q, k = (np.tile(passed[value], (1, times, 1)) for value in (node.q, node.k))
    g = g * (1 / math.sqrt(q.shape[-1]))

    def missing(i: int, faded: Array) -> Array:
        rest: Array = v[i] - (k[i][:, None] @ faded)[:, 0]
        return rest

    def after(i: int, state: Array) -> Array:
        faded = state * decay[i][:, None, None]
        later: Array = faded + k[i][..., None] * (beta[i][:, None] * missing(i, faded))[:, None]
        return later

    made = {value: np.empty_like(like) for value, like in _likes(node, q, k, v, beta)}
    state = np.zeros((v.shape[1], k.shape[-1], v.shape[-1]), g.dtype)
    of_state = np.zeros_like(state)
    for i, before, now in _backwards(len(v), state, after):
        faded = before * decay[i][:, None, None]
        rest = missing(i, faded)
        made["q"][i] = (now @ g[i][..., None])[..., 0]
        of_state += q[i][..., None] * g[i][:, None]
        of_change = (k[i][:, None] @ of_state)[:, 0]
        of_rest = beta[i][:, None] * of_change
        made["k"][i] = (of_state @ (beta[i][:, None] * rest)[..., None])[..., 0]
        made["k"][i] -= (faded @ of_rest[..., None])[..., 0]
        made["beta"][i] = (of_change * rest).sum(axis=-1)
        made["v"][i] = of_rest
        of_state -= k[i][..., None] * of_rest[:, None]
        made["decay"][i] = np.einsum("hnm,hnm->h", of_state, faded)
        of_state *= decay[i][:, None, None]
    for value, each in ((node.q, made["q"]), (node.k, made["k"])):
        yield value, each.reshape(len(v), times, *value.shape).sum(axis=1)
    yield node.v, made["v"]
    yield node.beta, made["beta"]
    yield node.decay, made["decay"]


def _likes(node: n.DeltaRule, q: Array, k: Array, v: Array, beta: Array) -> Iterator[tuple[str, Array]]:
    yield from (("q", q), ("k", k), ("v", v), ("beta", beta), ("decay", beta))


def _backwards(
    tokens: int, state: Array, after: Callable[[int, Array], Array]
) -> Iterator[tuple[int, Array, Array]]:
    """Tokens from the last on, with the states before and after them.

    after: the state after a token, by its number and the state before. States are kept at the starts of
    segments, and made anew of one segment at a time.
    """
    starts = []
    for i in range(tokens):
        if i % _SEGMENT == 0:
            starts.append(state)
        state = after(i, state)
    for segment in reversed(range(len(starts))):
        first = segment * _SEGMENT
        states = [starts[segment]]
        for i in range(first, min(tokens, first + _SEGMENT)):
            states.append(after(i, states[-1]))
        for i in reversed(range(len(states) - 1)):
            yield first + i, states[i], states[i + 1]
