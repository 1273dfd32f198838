"""Sizes of models that people run: their tensors, and the keys that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ggufpy.gguf.values import Value

Sizes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shape:
    """A network; keys: without the architecture's prefix. block: the tensors of the layer of a number."""

    architecture: str
    layers: int
    width: int
    vocab: int
    context: int
    is_tied: bool
    keys: Mapping[str, Value]
    block: Callable[[int], Sizes]

    def tensors(self) -> Sizes:
        """All tensors, under their names in a file."""
        sizes: Sizes = {"token_embd.weight": (self.vocab, self.width)}
        for layer in range(self.layers):
            sizes |= {f"blk.{layer}.{name}": size for name, size in self.block(layer).items()}
        sizes["output_norm.weight"] = (self.width,)
        return sizes if self.is_tied else {**sizes, "output.weight": (self.vocab, self.width)}

    def metadata(self) -> dict[str, Value]:
        """The architecture's keys."""
        keys = {
            "block_count": self.layers,
            "context_length": self.context,
            "embedding_length": self.width,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "vocab_size": self.vocab,
            **self.keys,
        }
        return {f"{self.architecture}.{key}": value for key, value in keys.items()}


def _attention(width: int, heads: int, kv_heads: int, head: int, *, norms: bool, gate: bool = False) -> Sizes:
    sizes: Sizes = {
        "attn_norm.weight": (width,),
        "attn_q.weight": ((1 + gate) * heads * head, width),
        "attn_k.weight": (kv_heads * head, width),
        "attn_v.weight": (kv_heads * head, width),
        "attn_output.weight": (width, heads * head),
    }
    return sizes | dict.fromkeys(("attn_q_norm.weight", "attn_k_norm.weight"), (head,)) if norms else sizes


def _attention_keys(heads: int, kv_heads: int, head: int, base: float) -> dict[str, Value]:
    return {
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.freq_base": base,
    }


def _feed_forward(width: int, inner: int, norm: str = "ffn_norm") -> Sizes:
    return {
        f"{norm}.weight": (width,),
        "ffn_gate.weight": (inner, width),
        "ffn_up.weight": (inner, width),
        "ffn_down.weight": (width, inner),
    }


def llama(
    layers: int,
    width: int,
    heads: tuple[int, int, int],
    inner: int,
    vocab: int,
    *,
    base: float = 10000.0,
    context: int = 4096,
    is_tied: bool = True,
) -> Shape:
    """Llama; heads: of queries, of keys, and values of each."""
    keys = {**_attention_keys(*heads, base), "feed_forward_length": inner, "rope.dimension_count": heads[2]}
    block = {**_attention(width, *heads, norms=False), **_feed_forward(width, inner)}
    return Shape("llama", layers, width, vocab, context, is_tied, keys, lambda _: block)


def _qwen3moe() -> Shape:
    """Qwen3-30B-A3B."""
    width, experts, inner, heads = 2048, 128, 768, (32, 4, 128)
    block = {
        **_attention(width, *heads, norms=True),
        "ffn_norm.weight": (width,),
        "ffn_gate_inp.weight": (experts, width),
        "ffn_gate_exps.weight": (experts, inner, width),
        "ffn_up_exps.weight": (experts, inner, width),
        "ffn_down_exps.weight": (experts, width, inner),
    }
    keys = {
        **_attention_keys(*heads, 1e6),
        "feed_forward_length": 6144,
        "expert_feed_forward_length": inner,
        "expert_count": experts,
        "expert_used_count": 8,
    }
    return Shape("qwen3moe", 48, width, 151936, 40960, False, keys, lambda _: block)


def _mamba2() -> Shape:
    """Mamba 2 of 1.3B."""
    width, groups, states, heads, kernel = 2048, 1, 128, 64, 4
    inner, mixed = 2 * width, 2 * width + 2 * groups * states
    block: Sizes = {
        "attn_norm.weight": (width,),
        "ssm_in.weight": (inner + mixed + heads, width),
        "ssm_conv1d.weight": (mixed, kernel),
        "ssm_conv1d.bias": (mixed,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (groups, inner // groups),
        "ssm_out.weight": (width, inner),
    }
    keys: dict[str, Value] = {"attention.head_count": 0, "feed_forward_length": 0}
    keys |= _state_keys(inner, kernel, states, heads, groups)
    return Shape("mamba2", 48, width, 50288, 1 << 20, True, keys, lambda _: block)


def _qwen35() -> Shape:
    """Qwen3.5 of 0.8B: three layers with a gated delta net, then one with attention."""
    width, inner, heads = 1024, 3584, (8, 2, 256)
    groups, states, nets, kernel, every = 16, 128, 16, 4, 4
    values = nets * states
    net: Sizes = {
        "attn_norm.weight": (width,),
        "attn_qkv.weight": (2 * groups * states + values, width),
        "attn_gate.weight": (values, width),
        "ssm_beta.weight": (nets, width),
        "ssm_alpha.weight": (nets, width),
        "ssm_conv1d.weight": (2 * groups * states + values, kernel),
        "ssm_dt.bias": (nets,),
        "ssm_a": (nets,),
        "ssm_norm.weight": (states,),
        "ssm_out.weight": (width, values),
    }
    attends = _attention(width, *heads, norms=True, gate=True)
    forward = _feed_forward(width, inner, "post_attention_norm")

    def block(layer: int) -> Sizes:
        return {**(net if (layer + 1) % every else attends), **forward}

    keys = {
        **_attention_keys(*heads, 1e7),
        **_state_keys(values, kernel, states, nets, groups),
        "feed_forward_length": inner,
        "full_attention_interval": every,
        "rope.dimension_count": 64,
        "rope.dimension_sections": [11, 11, 10, 0],
    }
    return Shape("qwen35", 24, width, 248320, 262144, True, keys, block)


def _state_keys(inner: int, kernel: int, states: int, heads: int, groups: int) -> dict[str, Value]:
    return {
        "ssm.inner_size": inner,
        "ssm.conv_kernel": kernel,
        "ssm.state_size": states,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
    }


SHAPES = {
    "1B": llama(16, 2048, (32, 8, 64), 8192, 128256, base=5e5, context=131072),  # Llama-3.2-1B
    "3B": llama(28, 3072, (24, 8, 128), 8192, 128256, base=5e5, context=131072),  # Llama-3.2-3B
    "7B": llama(32, 4096, (32, 32, 128), 11008, 32000, is_tied=False),  # Llama-2-7B
    "30B-A3B": _qwen3moe(),
    "mamba2-1.3B": _mamba2(),
    "delta-0.8B": _qwen35(),
}
