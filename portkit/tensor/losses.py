"""Losses: how far a prediction is from what was wanted, as a mean, a sum, or for each sample ("none")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portkit.compiler.graph import show
from portkit.errors import DTypeError, ShapeError, UsageError
from portkit.spec.types import I32
from portkit.tensor import elementwise as e
from portkit.tensor import movement, reductions
from portkit.tensor.activations import softplus
from portkit.tensor.common import one_axis, same_device
from portkit.tensor.normalisation import log_softmax
from portkit.tensor.promotion import inexact, wide

if TYPE_CHECKING:
    from portkit.tensor.tensor import Tensor

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": reductions.mean,
    "sum": reductions.sum,
    "none": lambda x: x,
}


def _reduced(name: str, x: Tensor, reduction: str) -> Tensor:
    if reduction not in _REDUCTIONS:
        raise UsageError(f"{name}: unknown reduction {reduction!r}; it is {', '.join(_REDUCTIONS)}")
    return _REDUCTIONS[reduction](x)


def _same_shape(name: str, x: Tensor, target: Tensor) -> None:
    same_device(name, x, target)
    if x.shape != target.shape:
        raise ShapeError(f"{name}: prediction {show(x.shape)} and target {show(target.shape)} differ; reshape one")


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return the squared difference. Raises `ShapeError`, `UsageError`."""
    _same_shape("mse_loss", x, target)
    return _reduced("mse_loss", e.square(x - target), reduction)


def l1_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return the magnitude of the difference. Raises `ShapeError`, `UsageError`."""
    _same_shape("l1_loss", x, target)
    return _reduced("l1_loss", e.abs(x - target), reduction)


def huber_loss(x: Tensor, target: Tensor, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Return half the squared difference up to `delta`, and beyond it the line that continues it.

    Raises `ShapeError`, `UsageError`. Source: P. Huber, "Robust Estimation of a Location Parameter", 1964.
    """
    _same_shape("huber_loss", x, target)
    far = e.abs(x - target)
    near = e.minimum(far, delta)
    return _reduced("huber_loss", near * (far - near * 0.5), reduction)


def binary_cross_entropy(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return -(t log x + (1 - t) log(1 - x)) of probabilities x; logarithms are taken as at least -100.

    Raises `ShapeError`, `UsageError`.
    """
    _same_shape("binary_cross_entropy", x, target)
    own, other = e.maximum(e.log(x), -100.0), e.maximum(e.log1p(-x), -100.0)
    return _reduced("binary_cross_entropy", -(target * own + (1.0 - target) * other), reduction)


def binary_cross_entropy_with_logits(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return the binary cross entropy of sigmoid(x), without overflow: softplus(x) - t x.

    Raises `ShapeError`, `UsageError`.
    """
    _same_shape("binary_cross_entropy_with_logits", x, target)
    return _reduced("binary_cross_entropy_with_logits", softplus(x) - target * x, reduction)


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return t (log t - x) of log-probabilities x and probabilities t, 0 where t is 0.

    Raises `ShapeError`, `UsageError`.
    """
    _same_shape("kl_div", x, target)
    logs = e.log(e.where(target > 0, target, 1.0))
    return _reduced("kl_div", target * (logs - x), reduction)


def nll_loss(
    x: Tensor, target: Tensor, weight: Tensor | None = None, ignore: int = -100, reduction: str = "mean"
) -> Tensor:
    """Return minus the log-probability of the wanted class: x (n, c, ...), target (n, ...) of integers.

    Samples of class `ignore` count for nothing; `weight` (c,) weighs classes, and the mean is over weights.
    Raises `ShapeError`, `DTypeError`, `UsageError`.
    """
    target = _classes("nll_loss", x, target)
    wanted = _one_hot(x, target)
    losses = -reductions.sum(e.where(wanted, x, 0.0), 1)
    return _weighed("nll_loss", losses, wanted, target != ignore, weight, reduction)


def _one_hot(x: Tensor, target: Tensor) -> Tensor:
    """Return which elements of x are of the wanted classes, as bool."""
    return movement.unsqueeze(target, 1) == reductions.place(x, 1)


def _weighed(
    name: str, losses: Tensor, wanted: Tensor, counted: Tensor, weight: Tensor | None, reduction: str
) -> Tensor:
    """Return losses times the weights of their classes, folded; what counts for nothing adds nothing, not even NaN."""
    rest = (1,) * (wanted.ndim - 2)
    each = 1.0 if weight is None else movement.reshape(weight, (1, wanted.shape[1], *rest))
    own = e.cast(reductions.sum(e.where(wanted, each, 0.0), 1), losses.dtype)
    weights = e.where(counted, own, 0.0)
    losses = e.where(weights != 0, losses if weight is None else losses * weights, 0.0)
    if reduction != "mean":
        return _reduced(name, losses, reduction)
    return reductions.sum(losses) / reductions.sum(weights)


def _classes(name: str, x: Tensor, target: Tensor) -> Tensor:
    """Return the classes as i32. Raises `ShapeError`, `DTypeError`."""
    same_device(name, x, target)
    one_axis(name, x, 1)
    if target.shape != (*x.shape[:1], *x.shape[2:]):
        raise ShapeError(f"{name}: target {show(target.shape)} does not fit {show(x.shape)}; it lacks just axis 1")
    if not target.dtype.is_int:
        raise DTypeError(f"{name}: the target holds classes, as integers, got {target.dtype}; cast it to i32")
    return e.cast(target, I32)


def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore: int = -100,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Return the cross entropy of logits x (n, c, ...) with classes (n, ...), or with probabilities of the shape of x.

    `smoothing` moves that share of each class's probability to all classes evenly. Classes may be weighed, unless
    smoothed, and left out, as in `nll_loss`; probabilities not. A single sample may lack axis n.
    Raises `ShapeError`, `DTypeError`, `UsageError`.
    """
    if x.ndim == 1:
        x, target = movement.unsqueeze(x, 0), movement.unsqueeze(target, 0)
    dtype = inexact(x.dtype)
    x = e.cast(x, wide(dtype))
    if target.shape == x.shape and target.dtype.is_float:
        if weight is not None or ignore != -100:
            raise UsageError("cross_entropy: with probabilities neither weight nor ignore is taken")
        losses = _of_probabilities(x, target, smoothing)
        return e.cast(_reduced("cross_entropy", losses, reduction), dtype)
    if weight is not None and smoothing:
        raise UsageError("cross_entropy: with smoothing no weight is taken")
    target = _classes("cross_entropy", x, target)
    wanted = _one_hot(x, target)
    losses = _of_classes(x, wanted, smoothing)
    return e.cast(_weighed("cross_entropy", losses, wanted, target != ignore, weight, reduction), dtype)


def _of_classes(x: Tensor, wanted: Tensor, smoothing: float) -> Tensor:
    """Return log(sum(exp(x))) less the wanted x, all shifted by the maximum: statistics of rows, read once."""
    shifted = x - e.detach(reductions.max(x, 1, keepdims=True))
    total = e.log(reductions.sum(e.exp(shifted), 1))
    own = reductions.sum(e.where(wanted, shifted, 0.0), 1)
    if not smoothing:
        return total - own
    return total - own * (1.0 - smoothing) - reductions.mean(shifted, 1) * smoothing


def _of_probabilities(x: Tensor, target: Tensor, smoothing: float) -> Tensor:
    logs = log_softmax(x, 1)
    losses = -reductions.sum(logs * e.cast(target, x.dtype), 1)
    return losses * (1.0 - smoothing) - reductions.mean(logs, 1) * smoothing if smoothing else losses
