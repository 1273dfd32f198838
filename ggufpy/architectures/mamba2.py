"""Mamba 2: no attention; a convolution and a state space in each layer."""

from __future__ import annotations

from ggufpy.architectures._decoder import MOST_LAYERS, head
from ggufpy.graph import Graph, Layer, Outputs, Value

HF_CLASSES: tuple[str, ...] = ()


def forward(g: Graph) -> Outputs:
    """A mixer and nothing else in each layer."""
    x = g.embed("token_embd", g.keys.integer("embedding_length", most=1 << 20))
    for layer in g.layers(g.keys.integer("block_count", most=MOST_LAYERS)):
        x = x + mixer(layer, layer.norm(x, "attn_norm"))
    return head(g, x)


def mixer(layer: Layer, h: Value) -> Value:
    """Gate, convolved inputs and time steps from one matrix; the norm is of each group."""
    k = layer.keys
    inner, states = k.integer("ssm.inner_size"), k.integer("ssm.state_size")
    heads, groups = k.integer("ssm.time_step_rank"), k.integer("ssm.group_count")
    k.expect("ssm.conv_kernel", layer.shape("ssm_conv1d.weight")[-1])
    size, shared = inner // heads, groups * states
    gate, mixed, dt = layer.linear(h, "ssm_in").split(inner, inner + 2 * shared, heads)
    u, b, c = layer.conv(mixed, "ssm_conv1d").apply("silu").split(inner, shared, shared)
    u, dt = u.view(heads, size), layer.vector(dt, "add", "ssm_dt.bias").apply("softplus")
    y = layer.scan(u, dt, b.view(groups, states), c.view(groups, states), "ssm_a")
    y = (y + layer.vector(u, "mul", "ssm_d")).flat() * gate.apply("silu")
    y = layer.norm(y.view(groups, inner // groups), "ssm_norm")
    return layer.linear(y.flat(), "ssm_out")
