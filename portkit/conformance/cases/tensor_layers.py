"""What networks are made of: activations, convolutions, pooling, norms, attention, losses, random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import portkit.tensor as t
from portkit.conformance.case import Case, Tier
from portkit.conformance.cases.tensorcase import Input, TensorCase, rows_to_cases
from portkit.contract import Capabilities
from portkit.tensor import random

SMOKE = Tier.SMOKE
_X = (Input((4, 9)),)
_PAIR = (Input((4, 6)), Input((4, 6)))
_POSITIVE = (Input((4, 9), holds="positive"),)
_IMAGE = Input((2, 3, 8, 7))
_PICTURE = (Input((1, 2, 8, 6), holds="distinct"),)
_QKV = (Input((2, 9, 8)), Input((2, 11, 8)), Input((2, 11, 8)))
_CHANNELS = (Input((2, 4, 5)), Input((4,)), Input((4,)))

_UNARY = (
    "neg positive abs square reciprocal exp exp2 sin cos tan tanh sigmoid erf expm1 relu relu6 leaky_relu elu selu "
    "softplus log_sigmoid silu mish gelu hardsigmoid hardswish hardtanh softsign"
)
_ON_POSITIVE = "sqrt rsqrt log log2 log10 log1p"
_STEPS = "sign floor ceil round trunc isnan isinf isfinite"
_BINARY = "add sub mul div maximum minimum"
_COMPARISONS = "lt gt eq ne le ge"
_DIVISIONS = "floor_divide remainder fmod truncated_divide"
_INTEGERS = f"{_DIVISIONS} bitwise_and bitwise_or bitwise_xor left_shift right_shift multiply_high"
_LOGIC = "logical_and logical_or logical_xor"


def _named(names: str, inputs: tuple[Input, ...], dtype: str = "f32", *, grad: bool = False) -> tuple[TensorCase, ...]:
    """Return a row for each function that takes such inputs and nothing else."""
    return tuple(TensorCase(f"{name}/{dtype}", getattr(t, name), inputs, grad=grad) for name in names.split())


_WHOLE = (Input((4, 9), "i32", "any"), Input((4, 9), "i32", "any"))
_BOOLS = (Input((5, 4), "bool", "any"), Input((5, 4), "bool", "any"))
_SMALL = (Input((4, 9), holds="small"), Input((4, 9), holds="small"))

_ELEMENTWISE = (
    *_named(_UNARY, _X, grad=True),
    *_named(_ON_POSITIVE, _POSITIVE, grad=True),
    *_named(_STEPS, (Input((4, 9), holds="any"),)),
    *_named(_BINARY, _PAIR, grad=True),
    *_named(_COMPARISONS, _SMALL),
    *_named(_INTEGERS, _WHOLE, "i32"),
    *_named(_LOGIC, _BOOLS, "bool"),
    *_named("remainder fmod", _PAIR, grad=True),
    *_named("floor_divide truncated_divide", _PAIR),
    TensorCase("bitwise_not/i32", t.bitwise_not, _WHOLE[:1]),
    TensorCase("logical_not/bool", t.logical_not, _BOOLS[:1]),
    TensorCase("pow/f32", t.pow, (*_POSITIVE, Input((4, 9))), grad=True),
    TensorCase("pow/f32/three", lambda x: t.pow(x, 3), _X, grad=True),
    TensorCase("clip/f32", lambda x: t.clip(x, -0.5, 0.5), _X, grad=True),
    TensorCase("where/f32", t.where, (Input((4, 6), "bool", "any"), *_PAIR), grad=True, dtype="f32"),
    TensorCase("add/f32/broadcast", t.add, (Input((3, 1, 5)), Input((4, 1))), grad=True),
    TensorCase("cast/f32", lambda x: t.cast(x, "i32"), _X),
    TensorCase("bitcast/f32", lambda x: t.bitcast(x, "u32"), _X),
    TensorCase("detach/f32", lambda x: t.detach(x) * x, _X, grad=True),
    TensorCase("contiguous/f32", lambda x: t.contiguous(t.transpose(x)), _X, grad=True),
    TensorCase("gelu/f32/tanh", partial(t.gelu, approximate="tanh"), _X, grad=True),
    TensorCase("dropout/f32", lambda x, n: t.dropout(x, n, 0.3), (*_X, Input((4, 9), holds="positive")), grad=True),
)

_CONVOLUTIONS = (
    TensorCase("conv1d/f32", t.conv1d, (Input((2, 3, 11)), Input((4, 3, 3)), Input((4,))), grad=True),
    TensorCase("conv2d/f32", t.conv2d, (_IMAGE, Input((4, 3, 3, 3)), Input((4,))), grad=True, tier=SMOKE),
    TensorCase(
        "conv2d/f32/stride-pad", partial(t.conv2d, stride=2, padding=1), (_IMAGE, Input((4, 3, 3, 3))), grad=True
    ),
    TensorCase("conv2d/f32/groups", partial(t.conv2d, groups=2), (Input((1, 4, 6, 6)), Input((6, 2, 3, 3))), grad=True),
    TensorCase("conv2d/f32/dilation", partial(t.conv2d, dilation=2), (_IMAGE, Input((2, 3, 3, 3)))),
    TensorCase("conv3d/f32", t.conv3d, (Input((1, 2, 4, 5, 4)), Input((3, 2, 2, 2, 2))), grad=True),
    TensorCase("conv/f32", t.conv, (Input((1, 2, 7)), Input((3, 2, 3))), grad=True),
    TensorCase("conv_transpose/f32", t.conv_transpose, (Input((1, 2, 5)), Input((2, 3, 3))), grad=True),
    TensorCase(
        "conv_transpose1d/f32", partial(t.conv_transpose1d, stride=2), (Input((1, 3, 5)), Input((3, 2, 4))), grad=True
    ),
    TensorCase(
        "conv_transpose2d/f32",
        partial(t.conv_transpose2d, stride=2),
        (Input((1, 2, 4, 3)), Input((2, 3, 3, 3))),
        grad=True,
    ),
    TensorCase("conv_transpose3d/f32", t.conv_transpose3d, (Input((1, 2, 3, 2, 3)), Input((2, 2, 2, 2, 2))), grad=True),
    TensorCase("unfold/f32", lambda x: t.unfold(x, (2, 3)), (Input((1, 2, 5, 6)),), grad=True),
    TensorCase("max_pool/f32", lambda x: t.max_pool(x, (2, 2)), _PICTURE, grad=True),
    TensorCase("max_pool/f32/overlap", lambda x: t.max_pool(x, (3, 3), 2, 1), _PICTURE, grad=True),
    TensorCase("avg_pool/f32", lambda x: t.avg_pool(x, (2, 2)), (_IMAGE,), grad=True),
    TensorCase("avg_pool/f32/pad", lambda x: t.avg_pool(x, (3, 3), 2, 1, False), (_IMAGE,)),
    TensorCase("adaptive_avg_pool/f32", lambda x: t.adaptive_avg_pool(x, (3, 2)), (_IMAGE,), grad=True),
    TensorCase("adaptive_max_pool/f32", lambda x: t.adaptive_max_pool(x, (3, 2)), _PICTURE, grad=True),
    TensorCase("interpolate/f32/nearest", lambda x: t.interpolate(x, (5, 11)), (_IMAGE,), grad=True),
    TensorCase("interpolate/f32/linear", lambda x: t.interpolate(x, (5, 11), mode="linear"), (_IMAGE,), grad=True),
    TensorCase("interpolate/f32/cubic", lambda x: t.interpolate(x, (9, 9), mode="cubic"), (_IMAGE,)),
)

_NORMS = (
    TensorCase("softmax/f32", t.softmax, _X, grad=True, tier=SMOKE, grad_tier=SMOKE),
    TensorCase("softmax/f32/columns", partial(t.softmax, axis=0), (Input((17, 5)),)),
    TensorCase("log_softmax/f32", t.log_softmax, _X, grad=True),
    TensorCase(
        "layer_norm/f32",
        lambda x, w, b: t.layer_norm(x, 9, w, b),
        (*_X, Input((9,)), Input((9,))),
        grad=True,
        tier=SMOKE,
    ),
    TensorCase("rms_norm/f32", lambda x, w: t.rms_norm(x, 9, w), (*_X, Input((9,))), grad=True),
    TensorCase("group_norm/f32", lambda x, w, b: t.group_norm(x, 2, w, b), _CHANNELS, grad=True),
    TensorCase("instance_norm/f32", t.instance_norm, _CHANNELS, grad=True),
    TensorCase("batch_norm/f32", lambda x, w, b: t.batch_norm(x, None, None, w, b), _CHANNELS, grad=True),
    TensorCase(
        "batch_norm/f32/known",
        t.batch_norm,
        (Input((2, 4, 5)), Input((4,)), Input((4,), holds="positive")),
        grad=True,
    ),
    TensorCase("normalize/f32", t.normalize, _X, grad=True),
    TensorCase("scaled_dot_product_attention/f32", t.scaled_dot_product_attention, _QKV, grad=True, tier=SMOKE),
    TensorCase(
        "scaled_dot_product_attention/f32/causal",
        partial(t.scaled_dot_product_attention, causal=True),
        (*_QKV[:1], Input((2, 9, 8)), Input((2, 9, 8))),
        grad=True,
    ),
    TensorCase("scaled_dot_product_attention/f32/mask", t.scaled_dot_product_attention, (*_QKV, Input((9, 11)))),
)

_CLASSES = Input((5,), "i32", "index", 9)

_LOSSES = (
    TensorCase("mse_loss/f32", t.mse_loss, _PAIR, grad=True),
    TensorCase("l1_loss/f32", t.l1_loss, _PAIR, grad=True),
    TensorCase("huber_loss/f32", t.huber_loss, _PAIR, grad=True),
    TensorCase(
        "binary_cross_entropy/f32", lambda x, y: t.binary_cross_entropy(t.sigmoid(x), t.sigmoid(y)), _PAIR, grad=True
    ),
    TensorCase(
        "binary_cross_entropy_with_logits/f32",
        lambda x, y: t.binary_cross_entropy_with_logits(x, t.sigmoid(y)),
        _PAIR,
        grad=True,
    ),
    TensorCase("kl_div/f32", lambda x, y: t.kl_div(t.log_softmax(x), t.softmax(y)), _PAIR, grad=True),
    TensorCase("nll_loss/f32", lambda x, y: t.nll_loss(t.log_softmax(x), y), (Input((5, 9)), _CLASSES), grad=True),
    TensorCase("cross_entropy/f32", t.cross_entropy, (Input((5, 9)), _CLASSES), grad=True, tier=SMOKE, grad_tier=SMOKE),
    TensorCase(
        "cross_entropy/f32/smoothing", lambda x, y: t.cross_entropy(x, y, smoothing=0.1), (Input((5, 9)), _CLASSES)
    ),
)


def _stream() -> random.Generator:
    """Return the stream of a seed with bits in both words of the key."""
    return random.Generator((1 << 40) + 7)


_RANDOM = (
    TensorCase("random.bits/u32", lambda: random.bits(64, generator=_stream()), (), dtype="u32", tier=SMOKE),
    TensorCase("random.rand/f32", lambda: random.rand(5, 13, generator=_stream()), (), dtype="f32"),
    TensorCase("random.uniform/f32", lambda: random.uniform(40, low=-2.0, high=3.0, generator=_stream()), ()),
    TensorCase("random.randn/f32", lambda: random.randn(50, generator=_stream()), ()),
    TensorCase("random.normal/f32", lambda: random.normal(50, mean=1.0, std=0.5, generator=_stream()), ()),
    TensorCase("random.randint/i32", lambda: random.randint(-3, 9, (40,), generator=_stream()), (), dtype="i32"),
    TensorCase("random.permutation/i32", lambda: random.permutation(20, generator=_stream()), (), dtype="i32"),
    TensorCase("random.bernoulli/bool", lambda: random.bernoulli(0.3, (40,), generator=_stream()), (), dtype="bool"),
)

ROWS = (*_ELEMENTWISE, *_CONVOLUTIONS, *_NORMS, *_LOSSES, *_RANDOM)


def cases(capabilities: Capabilities) -> Iterator[Case]:
    """Yield the cases that the device can hold."""
    yield from rows_to_cases(ROWS, capabilities)
