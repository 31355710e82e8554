"""Tensors: lazy n-dimensional arrays whose graphs the compiler turns into kernels for any backend.

`Tensor` has the operations as methods; here the same functions go by name, so that `tensor.exp(x)` is `x.exp()`.
Everything loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor as Tensor

_NAMES = {
    "tensor": "Tensor",
    "creation": "full zeros ones full_like zeros_like ones_like arange linspace eye meshgrid one_hot tril triu",
    "exchange": "from_numpy from_dlpack",
    "elementwise": (
        "add sub mul div floor_divide remainder fmod truncated_divide pow maximum minimum clip lt gt eq ne le "
        "ge logical_not logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not "
        "left_shift right_shift multiply_high where neg positive abs sign square reciprocal sqrt rsqrt exp "
        "exp2 log log2 log10 sin cos tan tanh sigmoid erf floor ceil round trunc expm1 log1p isnan isinf "
        "isfinite cast bitcast detach contiguous"
    ),
    "movement": (
        "reshape flatten unflatten squeeze unsqueeze expand broadcast_to broadcast_tensors permute transpose "
        "moveaxis flip roll shrink narrow split chunk unbind stride diagonal pad dilate cat stack tile repeat "
        "repeat_interleave"
    ),
    "indexing": "take embedding gather take_along_axis scatter scatter_add",
    "reductions": "sum prod max min any all count_nonzero mean var std logsumexp norm argmax argmin",
    "scans": "cumsum cumprod cummax cummin diff",
    "sorting": "sort argsort topk",
    "masking": "masked_fill masked_select nonzero",
    "products": "matmul dot outer linear tensordot",
    "einstein": "einsum",
    "convolution": "conv conv1d conv2d conv3d conv_transpose conv_transpose1d conv_transpose2d conv_transpose3d unfold",
    "pooling": "max_pool avg_pool adaptive_avg_pool adaptive_max_pool",
    "interpolation": "interpolate",
    "activations": (
        "relu relu6 leaky_relu elu selu softplus log_sigmoid silu mish gelu hardsigmoid hardswish hardtanh "
        "softsign dropout"
    ),
    "normalisation": "softmax log_softmax layer_norm rms_norm group_norm instance_norm batch_norm normalize",
    "attention": "scaled_dot_product_attention",
    "losses": (
        "mse_loss l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits kl_div nll_loss "
        "cross_entropy"
    ),
}
"""Module -> what of it is public here."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
FUNCTIONS = tuple(name for name in _MODULE_OF if name != "Tensor")
"""The names of the public functions; the conformance suite has cases of every one."""
_SUBPACKAGES = ("jit", "nn", "optim", "random", "safetensors")


def __getattr__(name: str) -> Any:
    """Import a function, the class `Tensor` or a module of this package on first use.

    Raises:
        AttributeError: *name* is not a public part of portkit.tensor.
    """
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"portkit.tensor.{_MODULE_OF[name]}"), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"portkit.tensor.{name}")
    raise AttributeError(f"module 'portkit.tensor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULE_OF, *_SUBPACKAGES])
