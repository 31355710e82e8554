"""Reductions, scans, sorting, movement, indexing, masks, creation and products of tensors, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import portkit.tensor as t
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.tensorcase import Input, TensorCase, rows_to_cases
from portkit.contract import Capabilities
from portkit.tensor.tensor import Tensor

SMOKE = Tier.SMOKE
_X = (Input((5, 7)),)
_CUBE = (Input((3, 4, 5)),)
_APART = (Input((5, 7), holds="distinct"),)
_WIDE = (Input((3, 37)),)
_PAIR = (Input((4, 6)), Input((4, 6)))


def _index(*shape: int, limit: int) -> Input:
    return Input(shape, "i32", "index", limit)


def _bool(*shape: int) -> Input:
    return Input(shape, "bool", "any")


def _assigned(x: Tensor, value: Tensor) -> Tensor:
    """Return x with a part replaced, by assignment."""
    copy = x + 0.0
    copy[1:3, ::2] = value
    return copy


_REDUCTIONS = (
    TensorCase("sum/f32/rows", partial(t.sum, axis=1), _WIDE, grad=True, tier=SMOKE, grad_tier=SMOKE),
    TensorCase("sum/f32/columns", partial(t.sum, axis=0), _WIDE),
    TensorCase("sum/f32/all", t.sum, _CUBE),
    TensorCase("sum/f32/outer-axes", partial(t.sum, axis=(0, 2), keepdims=True), _CUBE),
    TensorCase("sum/f32/exact", t.sum, (Input((7, 11), holds="small"),)),
    TensorCase("sum/f32/long", t.sum, (Input((3001,)),)),
    TensorCase("sum/f32/empty", partial(t.sum, axis=1), (Input((3, 0)),)),
    TensorCase("sum/f32/wide-exponents", partial(t.sum, axis=1), (Input((9, 33), holds="any"),)),
    TensorCase("prod/f32", partial(t.prod, axis=1), _X, grad=True),
    TensorCase("prod/f32/empty", partial(t.prod, axis=0), (Input((0, 3)),)),
    TensorCase("max/f32", partial(t.max, axis=1), _APART, grad=True, tier=SMOKE),
    TensorCase("max/f32/any", partial(t.max, axis=0), (Input((19, 6), holds="any"),)),
    TensorCase("min/f32", partial(t.min, axis=1), _APART, grad=True),
    TensorCase("mean/f32", partial(t.mean, axis=1), _WIDE, grad=True),
    TensorCase("var/f32", partial(t.var, axis=1), _X, grad=True),
    TensorCase("std/f32", partial(t.std, axis=1), _X, grad=True),
    TensorCase("logsumexp/f32", partial(t.logsumexp, axis=1), _X, grad=True),
    TensorCase("norm/f32", partial(t.norm, axis=1), _X, grad=True),
    TensorCase("any/bool", partial(t.any, axis=1), (_bool(6, 3),)),
    TensorCase("all/bool", partial(t.all, axis=1), (_bool(6, 3),)),
    TensorCase("count_nonzero/f32", partial(t.count_nonzero, axis=1), (Input((5, 9), holds="small"),)),
    TensorCase("argmax/f32", partial(t.argmax, axis=1), (Input((5, 9), holds="small"),), tier=SMOKE),
    TensorCase("argmin/f32", partial(t.argmin, axis=1), (Input((5, 9), holds="small"),)),
    TensorCase("argmax/f32/flat", t.argmax, _APART),
)

_SCANS = (
    TensorCase("cumsum/f32", partial(t.cumsum, axis=1), _X, grad=True, tier=SMOKE),
    TensorCase("cumsum/f32/outer-axis", partial(t.cumsum, axis=0), _CUBE),
    TensorCase("cumprod/f32", partial(t.cumprod, axis=1), _X, grad=True),
    TensorCase("cummax/f32", partial(t.cummax, axis=1), _APART, grad=True),
    TensorCase("cummin/f32", partial(t.cummin, axis=1), _APART, grad=True),
    TensorCase("diff/f32", partial(t.diff, axis=1), _X, grad=True),
    TensorCase("sort/f32", t.sort, (Input((3, 13), holds="small"),), tier=SMOKE, grad=True),
    TensorCase("sort/f32/descending", partial(t.sort, axis=0, descending=True), _APART, grad=True),
    TensorCase("argsort/f32", t.argsort, (Input((3, 13), holds="small"),)),
    TensorCase("topk/f32", partial(t.topk, count=3), _APART, grad=True),
    TensorCase("topk/f32/smallest", partial(t.topk, count=2, axis=0, largest=False), _APART),
)

_MOVEMENT = (
    TensorCase("reshape/f32", lambda x: t.reshape(x, 10, 6), _CUBE, grad=True),
    TensorCase("flatten/f32", t.flatten, _CUBE, grad=True),
    TensorCase("unflatten/f32", lambda x: t.unflatten(x, 1, (2, 2)), _CUBE, grad=True),
    TensorCase("squeeze/f32", t.squeeze, (Input((3, 1, 4, 1)),), grad=True),
    TensorCase("unsqueeze/f32", lambda x: t.unsqueeze(x, 1), _X, grad=True),
    TensorCase("expand/f32", lambda x: t.expand(x, 3, 4, 5) * 2.0, (Input((3, 1, 5)),), grad=True),
    TensorCase("broadcast_to/f32", lambda x: t.broadcast_to(x, 4, 3, 5), (Input((3, 1)),), grad=True),
    TensorCase("broadcast_tensors/f32", t.broadcast_tensors, (Input((3, 1)), Input((1, 4))), grad=True),
    TensorCase("permute/f32", lambda x: t.permute(x, 2, 0, 1), _CUBE, grad=True),
    TensorCase("transpose/f32", lambda x: t.transpose(x, 0, 1), (Input((33, 17)),), grad=True, tier=SMOKE),
    TensorCase("moveaxis/f32", lambda x: t.moveaxis(x, 0, -1), _CUBE, grad=True),
    TensorCase("flip/f32", lambda x: t.flip(x, (0, 2)), _CUBE, grad=True),
    TensorCase("roll/f32", lambda x: t.roll(x, (1, -2), (0, 2)), _CUBE, grad=True),
    TensorCase("shrink/f32", lambda x: t.shrink(x, [(1, 3), None, (2, 5)]), _CUBE, grad=True),
    TensorCase("narrow/f32", lambda x: t.narrow(x, 1, 1, 2), _CUBE, grad=True),
    TensorCase("split/f32", lambda x: t.split(x, [1, 3], 1), _CUBE, grad=True),
    TensorCase("chunk/f32", lambda x: t.chunk(x, 3, 2), _CUBE, grad=True),
    TensorCase("unbind/f32", lambda x: t.unbind(x, 0), _CUBE, grad=True),
    TensorCase("stride/f32", lambda x: t.stride(x, [1, 2, 3]), _CUBE, grad=True),
    TensorCase("diagonal/f32", t.diagonal, (Input((5, 8)),), grad=True),
    TensorCase("pad/f32", lambda x: t.pad(x, [(1, 0), (2, 3)], 0.5), _X, grad=True, tier=SMOKE),
    TensorCase("dilate/f32", lambda x: t.dilate(x, [2, 3]), _X, grad=True),
    TensorCase("cat/f32", lambda x, y: t.cat([x, y], 1), (Input((3, 4)), Input((3, 5))), grad=True),
    TensorCase("stack/f32", lambda x, y: t.stack([x, y], 1), _PAIR, grad=True),
    TensorCase("tile/f32", lambda x: t.tile(x, 2, 3), _X, grad=True),
    TensorCase("repeat/f32", lambda x: t.repeat(x, 2, 1), _X, grad=True),
    TensorCase("repeat_interleave/f32", lambda x: t.repeat_interleave(x, 3, 0), _X, grad=True),
    TensorCase("slice/f32", lambda x: x[1:, ::2, -3:], _CUBE, op="getitem", grad=True),
    TensorCase("slice/f32/backwards", lambda x: x[::-2, 1], _X, op="getitem", grad=True),
    TensorCase("slice/f32/empty", lambda x: x[:, 3:3], _X, op="getitem"),
)

_INDEXING = (
    TensorCase("take/f32", lambda x, i: t.take(x, i, 1), (*_CUBE, _index(2, 3, limit=4)), grad=True),
    TensorCase("take/f32/out-of-range", lambda x, i: t.take(x, i, 0), (Input((4, 3)), _index(9, limit=7))),
    TensorCase("embedding/f32", t.embedding, (Input((11, 6)), _index(3, 4, limit=11)), grad=True, tier=SMOKE),
    TensorCase("gather/f32", lambda x, i: t.gather(x, 1, i), (*_X, _index(5, 3, limit=7)), grad=True),
    TensorCase("take_along_axis/f32", lambda x, i: t.take_along_axis(x, i, 1), (*_X, _index(5, 4, limit=7)), grad=True),
    TensorCase(
        "scatter/f32", lambda x, i, v: t.scatter(x, 1, i, v), (*_X, _index(5, 3, limit=7), Input((5, 3))), grad=True
    ),
    TensorCase(
        "scatter_add/f32",
        lambda x, i, v: t.scatter_add(x, 0, i, v),
        (*_X, _index(9, 7, limit=5), Input((9, 7))),
        grad=True,
    ),
    TensorCase(
        "scatter/f32/max", lambda x, i, v: t.scatter(x, 1, i, v, "max"), (*_X, _index(5, 9, limit=7), Input((5, 9)))
    ),
    TensorCase("setitem/f32", _assigned, (Input((5, 6)), Input((2, 3))), op="setitem", grad=True),
    TensorCase("index/f32/tensor", lambda x, i: x[i], (*_X, _index(8, limit=5)), op="getitem", grad=True),
    TensorCase("masked_fill/f32", lambda x, m: t.masked_fill(x, m, -1.0), (*_X, _bool(5, 7)), grad=True),
    TensorCase("masked_select/f32", lambda x, m: t.masked_select(x, m, 20), (*_X, _bool(5, 7)), grad=True),
    TensorCase("nonzero/f32", lambda x: t.nonzero(x, 30), (Input((5, 7), holds="small"),)),
    TensorCase("one_hot/i32", lambda x: t.one_hot(x, 5), (_index(3, 4, limit=5),)),
    TensorCase("tril/f32", lambda x: t.tril(x, 1), _X, grad=True),
    TensorCase("triu/f32", lambda x: t.triu(x, -1), _X, grad=True),
)


_CREATION = (
    TensorCase("full/f32", lambda: t.full((3, 5), 2.5), ()),
    TensorCase("zeros/f32", lambda: t.zeros(3, 5), ()),
    TensorCase("ones/f32", lambda: t.ones(2, 3), ()),
    TensorCase("full_like/f32", lambda x: t.full_like(x, 3.0), _X),
    TensorCase("zeros_like/f32", t.zeros_like, _X),
    TensorCase("ones_like/f32", t.ones_like, _X),
    TensorCase("arange/i32", lambda: t.arange(3, 40, 4), (), dtype="i32"),
    TensorCase("linspace/f32", lambda: t.linspace(-1.0, 2.0, 13), ()),
    TensorCase("eye/f32", lambda: t.eye(4, 6), ()),
    TensorCase("meshgrid/f32", t.meshgrid, (Input((3,)), Input((4,))), grad=True),
)

_PRODUCTS = (
    TensorCase("matmul/f32/33x65x17", t.matmul, (Input((33, 65)), Input((65, 17))), tier=SMOKE),
    TensorCase("matmul/f32/8x8x8", t.matmul, (Input((8, 8)), Input((8, 8))), grad=True),
    TensorCase("matmul/f32/exact", t.matmul, (Input((9, 40), holds="small"), Input((40, 11), holds="small"))),
    TensorCase("matmul/f32/1x1x1", t.matmul, (Input((1, 1)), Input((1, 1)))),
    TensorCase("matmul/f32/batch", t.matmul, (Input((2, 5, 9)), Input((2, 9, 7))), grad=True),
    TensorCase("matmul/f32/broadcast", t.matmul, (Input((2, 1, 4, 6)), Input((3, 6, 5)))),
    TensorCase("matmul/f32/transposed", lambda x, y: t.matmul(x, t.transpose(y)), (Input((17, 30)), Input((19, 30)))),
    TensorCase("matmul/f32/vector", t.matmul, (Input((21, 50)), Input((50,))), grad=True),
    TensorCase("matmul/f32/empty", t.matmul, (Input((3, 0)), Input((0, 4)))),
    TensorCase(
        "matmul/f32/bias-relu", lambda x, y, b: t.relu(x @ y + b), (Input((9, 20)), Input((20, 18)), Input((18,)))
    ),
    TensorCase("dot/f32", t.dot, (Input((200,)), Input((200,))), grad=True),
    TensorCase("outer/f32", t.outer, (Input((7,)), Input((9,))), grad=True),
    TensorCase("linear/f32", t.linear, (Input((5, 12)), Input((8, 12)), Input((8,))), grad=True),
    TensorCase("tensordot/f32", lambda x, y: t.tensordot(x, y, 2), (Input((3, 4, 5)), Input((4, 5, 6))), grad=True),
    TensorCase(
        "einsum/f32/second-transposed", partial(t.einsum, "ij,kj->ik"), (Input((6, 9)), Input((5, 9))), grad=True
    ),
    TensorCase("einsum/f32/trace", partial(t.einsum, "ii->"), (Input((6, 6)),)),
    TensorCase("einsum/f32/heads", partial(t.einsum, "bhqd,bhkd->bhqk"), (Input((2, 2, 3, 4)), Input((2, 2, 5, 4)))),
)

_ANY = (Input((5, 7), holds="any"),)
_INTEGERS = (Input((5, 7), "i32", "any"),)
_SIMPLIFIED = (
    TensorCase("floor_divide/i32/again", lambda x: t.floor_divide(t.floor_divide(x, 3), 7), _INTEGERS, dtype="i32"),
    TensorCase("floor_divide/i32/of-zero", lambda x: t.floor_divide(t.zeros_like(x), x), _INTEGERS, dtype="i32"),
    TensorCase("floor/f32/of-round", lambda x: t.floor(t.round(x)), _ANY),
    TensorCase("neg/f32/of-product", lambda x: -(x * 3.0), _ANY),
    TensorCase("div/f32/power-of-two", lambda x: x / -8.0, _ANY),
    TensorCase("pow/f32/two", lambda x: t.pow(x, 2.0), _ANY),
    TensorCase("pow/f32/zero", lambda x: t.pow(x, 0.0), _ANY),
    TensorCase("pad/f32/empty", lambda x: t.pad(x, [(1, 0), (2, 3)], 0.5), (Input((0, 4)),)),
    TensorCase("take/f32/empty", lambda x, i: t.take(x, i, 0), (Input((0, 3)), _index(4, limit=1))),
    TensorCase("scatter/f32/empty", lambda x, i, v: t.scatter(x, 1, i, v), (*_X, _index(5, 0, limit=7), Input((5, 0)))),
)
"""What a compiler makes something simpler of, and random graphs seldom hold."""

ROWS = (*_REDUCTIONS, *_SCANS, *_MOVEMENT, *_INDEXING, *_CREATION, *_PRODUCTS, *_SIMPLIFIED)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases that the device can hold."""
    yield from rows_to_cases(ROWS, capabilities)
