"""Vectors for compiled functions: 16 f32 side by side, so that 16 blocks are searched in lockstep.

A sum over a block must run in the order of its weights to round as llama.cpp's does, so a vector holds the
same weight of 16 blocks, never 16 weights of one sum. Inside a compiled function a vector takes + - * / and
comparisons with vectors and f32; comparisons give a mask, which takes & and |. LLVM maps the 16 lanes to
whatever vector unit the machine has. Outside of compiled functions there are no vectors.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_cast
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16

# What annotations call a vector and a mask: mypy cannot see numba's types.
F32x16 = Any
Mask = Any


class _VectorType(types.Type):
    """numba's type of a vector or a mask."""


_f32x16 = _VectorType("f32x16")
_mask = _VectorType("mask16")
_F32X16 = ir.VectorType(ir.FloatType(), LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_LLVM_TYPES = {_f32x16: _F32X16, _mask: _MASK}


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, type: Any) -> None:
        super().__init__(manager, type, _LLVM_TYPES[type])


# ---- operators

_ARITHMETIC = {
    operator.add: "fadd",
    operator.iadd: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}
_COMPARISONS = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}
_LOGIC = {operator.and_: "and_", operator.or_: "or_"}
_OPERANDS = ((_f32x16, _f32x16), (_f32x16, types.float32), (types.float32, _f32x16))


def _wide(builder: Any, type: Any, value: Any) -> Any:
    """A vector as it is, an f32 in every lane."""
    if type is _f32x16:
        return value
    one = builder.insert_element(ir.Constant(_F32X16, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _define(op: Any, instruction: str, operands: Any, result: Any, symbol: str | None = None) -> None:
    """Let numba know `op` on `operands` as one LLVM instruction."""

    class Template(ConcreteTemplate):
        cases = [signature(result, *pair) for pair in operands]  # noqa: RUF012  # numba reads it so

    infer_global(op)(Template)

    for pair in operands:

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if sig.args[0] is not _mask:
                args = [_wide(builder, *each) for each in zip(sig.args, args, strict=True)]
            make = getattr(builder, instruction)
            return make(symbol, *args) if symbol else make(*args)

        lower_builtin(op, *pair)(lower)


for _op, _name in _ARITHMETIC.items():
    _define(_op, _name, _OPERANDS, _f32x16)
for _op, _name in _COMPARISONS.items():
    _define(_op, "fcmp_ordered", _OPERANDS, _mask, _name)
for _op, _name in _LOGIC.items():
    _define(_op, _name, ((_mask, _mask),), _mask)


@lower_cast(types.float32, _f32x16)
def _cast(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return _wide(builder, source, value)


# ---- functions


def _function(generator: Any) -> Any:
    """Apply `intrinsic` without the signature that it claims to have outside of compiled functions."""
    return intrinsic(generator)


@_function
def splat(typing: Any, value: Any) -> Any:
    """`value` (f32) in every lane."""
    return _f32x16(types.float32), lambda context, builder, sig, args: _wide(builder, types.float32, args[0])


@_function
def load(typing: Any, array: Any, offset: Any) -> Any:
    """array[offset : offset + 16] of a contiguous (n,) f32."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, sig, args, _F32X16), align=4)

    return _f32x16(array, types.intp), generate


@_function
def load_strided(typing: Any, array: Any, offset: Any, stride: Any) -> Any:
    """array[offset : offset + 16 * stride : stride] of a contiguous (n,) f32."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        start = _pointer(context, builder, sig, args, ir.FloatType())
        result = ir.Constant(_F32X16, ir.Undefined)
        for lane in range(LANES):
            at = builder.mul(args[2], ir.Constant(args[2].type, lane))
            value = builder.load(builder.gep(start, [at]), align=4)
            result = builder.insert_element(result, value, ir.Constant(ir.IntType(32), lane))
        return result

    return _f32x16(array, types.intp, types.intp), generate


@_function
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Let array[offset : offset + 16], of a contiguous (n,) f32, be `value`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, sig, args, _F32X16), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32x16), generate


@_function
def store_bytes(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Let array[offset : offset + 16], of a contiguous (n,) u8, be `value`, whole numbers in 0..255."""
    narrow = ir.VectorType(ir.IntType(8), LANES)
    wide = ir.VectorType(ir.IntType(32), LANES)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = builder.trunc(builder.fptosi(args[2], wide), narrow)
        builder.store(whole, _pointer(context, builder, sig, args, narrow), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, _f32x16), generate


@_function
def select(typing: Any, mask: Any, yes: Any, no: Any) -> Any:
    """`yes` where `mask`, else `no`; both vectors or f32."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        choices = [_wide(builder, *each) for each in zip(sig.args[1:], args[1:], strict=True)]
        return builder.select(args[0], *choices)

    return _f32x16(mask, yes, no), generate


@_function
def any_lane(typing: Any, mask: Any) -> Any:
    """Whether a lane of `mask` is set."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask), generate


@_function
def magnitude(typing: Any, value: Any) -> Any:
    """|value|, lane by lane."""
    return _f32x16(value), _unary("llvm.fabs.v16f32")


@_function
def square_root(typing: Any, value: Any) -> Any:
    """The square root, lane by lane."""
    return _f32x16(value), _unary("llvm.sqrt.v16f32")


@_function
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Lane by lane a * b + c, rounded once where the machine does that as fast. b may be an f32."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = ir.FunctionType(_F32X16, [_F32X16] * 3)
        callee = cgutils.get_or_insert_function(builder.module, function, "llvm.fmuladd.v16f32")
        return builder.call(callee, [_wide(builder, *each) for each in zip(sig.args, args, strict=True)])

    return _f32x16(a, b, c), generate


@_function
def greatest_lane(typing: Any, value: Any) -> Any:
    """The greatest of the lanes, none of them NaN."""
    return types.float32(value), _reduction("llvm.vector.reduce.fmax.v16f32")


@_function
def least_lane(typing: Any, value: Any) -> Any:
    """The least of the lanes, none of them NaN."""
    return types.float32(value), _reduction("llvm.vector.reduce.fmin.v16f32")


def _reduction(name: str) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.FloatType(), [_F32X16])
        callee = cgutils.get_or_insert_function(builder.module, function, name)
        return builder.call(callee, args, fastmath=("nnan",))

    return generate


def _unary(name: str) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = ir.FunctionType(_F32X16, [_F32X16])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)

    return generate


def _pointer(context: Any, builder: Any, sig: Any, args: Any, target: Any) -> Any:
    """Where args[1] of the array args[0] is, as a pointer to `target`."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), target.as_pointer())
