"""`Tensor`: an n-dimensional array that is computed when its elements are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from portkit.compiler.graph import Node, show
from portkit.errors import DTypeError, ShapeError, TensorError, UsageError, near_names
from portkit.runtime.devices import device_names
from portkit.spec.types import DTYPES
from portkit.tensor import (
    activations,
    elementwise,
    indexing,
    masking,
    movement,
    normalisation,
    products,
    realising,
    reductions,
    scans,
    sorting,
    tracing,
)
from portkit.tensor.base import DEFAULT_DEVICE, Handle, device_name, host_array, source_of
from portkit.tensor.common import Operand, is_operand, is_tensor, nodes_of
from portkit.tensor.leaves import computed
from portkit.tensor.promotion import DTypeLike

_DTYPE_NAMES = frozenset(DTYPES)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return floats as f64, whose numbers Python has, without a warning for a signalling NaN; the rest as it is."""
    if array.dtype.kind in "biu":
        return array
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


@lru_cache(maxsize=64)  # of names that passed: a look at what is installed takes over a millisecond
def _check_installed(name: str) -> None:
    """Refuse early what would be refused when it is computed, without importing a backend. Raises `UsageError`."""
    backends = device_names()
    if name not in backends and ":" not in name:
        near = near_names(name, [*backends, *_DTYPE_NAMES])
        raise UsageError(f"to: {name!r} is no dtype and no installed backend; installed: {', '.join(backends)}{near}")


class Tensor(Handle):
    """An n-dimensional array of one dtype on one device, computed lazily.

    Operations return new tensors at once and compute nothing; `realize()`, `numpy()`, `item()`, `tolist()` and
    exchange with other libraries compute. Assignment (`t[...] = v`, `t += v`, `t.assign(v)`) gives this tensor a new
    value; tensors made from the old value keep it, slices included: there are no views that see later writes.
    """

    __slots__ = ()

    __array_ufunc__ = None  # so that `array + tensor` is ours

    def __init__(
        self,
        data: Any,
        dtype: DTypeLike | None = None,
        device: str | None = None,
        requires_grad: bool = False,
    ) -> None:
        """Make a tensor of a number, nested sequences, an array (which is copied) or a tensor.

        Without `dtype` an array keeps its own; Python integers give i32, floats f32, bools bool.
        Raises `ShapeError` for ragged data, `DTypeError` for data that are no numbers or do not fit the dtype.
        """
        if is_tensor(data):
            self._node = data.node if dtype is None else elementwise.cast(data, dtype).node
            device = device or data.device
        else:
            self._node = source_of(host_array(data, dtype))
        self._device = device_name(device)
        self._requires_grad = False
        self._grad = None
        tracing.made(self)
        if requires_grad:
            self.requires_grad = True

    # --- computing ------------------------------------------------------------------------------------------------

    def realize(self, *others: Tensor) -> Self:
        """Compute this tensor, and `others` with it so that they share work; return this tensor.

        Raises `DTypeError` where one of the others is no tensor.
        """
        for other in others:
            if not is_tensor(other):
                raise DTypeError(f"realize takes tensors, got {other!r}; give each as an argument of its own")
        realising.realise([self, *others])
        return self

    def numpy(self) -> NDArray[Any]:
        """Return the elements as a new array; bf16 and f8 have the dtypes of ml_dtypes."""
        return realising.contents(self).copy()

    def item(self) -> bool | int | float:
        """Return the only element as a Python number. Raises `ShapeError` for another number of elements."""
        if self.size != 1:
            raise ShapeError(f"item: a tensor of shape {show(self.shape)} has {self.size} elements; index or reduce it")
        value = realising.contents(self).reshape(()).item()
        return float(value) if self.dtype.is_float else value

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers; of a tensor of rank 0, the number."""
        array = realising.contents(self)
        return _plain(array).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the elements as an array, for NumPy; with `copy=False` to be read only, where they lie."""
        array = realising.contents(self)
        if copy is not False:
            return array.astype(array.dtype if dtype is None else dtype)
        if dtype is not None and np.dtype(dtype) != array.dtype:
            raise ValueError(f"a tensor of {self.dtype} is no array of {np.dtype(dtype)} without a copy")
        view = array.view()
        view.flags.writeable = False
        return view

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return the elements for another array library: see `portkit.tensor.exchange`."""
        from portkit.tensor.exchange import HOST, capsule_of

        if stream is not None or dl_device not in (None, HOST):
            raise BufferError(f"a tensor is handed out in the memory of the host, not on {dl_device}")
        return capsule_of(self, max_version, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return where `__dlpack__` hands out the elements: the host."""
        from portkit.tensor.exchange import HOST

        return HOST

    def to(self, target: str | DTypeLike) -> Tensor:
        """Return this tensor in another dtype, or on another device, to which a computed copy is made.

        Raises `DTypeError`, and `UsageError` for a name of neither.
        """
        if not isinstance(target, str) or target in _DTYPE_NAMES:
            return elementwise.cast(self, target)
        if target == self.device:
            return self
        _check_installed(target)
        return Tensor.of(source_of(realising.contents(self)), target)

    # --- gradients ------------------------------------------------------------------------------------------------

    def backward(self, gradient: Tensor | None = None, *, create_graph: bool = False) -> None:
        """Add the gradients of this tensor to `grad` of the leaves: see `portkit.tensor.autograd.backward`."""
        from portkit.tensor.autograd import backward

        backward(self, gradient, create_graph=create_graph)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set `requires_grad` and return this tensor."""
        self.requires_grad = wanted
        return self

    # --- assignment -----------------------------------------------------------------------------------------------

    def rebind(self, node: Node) -> None:
        """Give this tensor the node of its own value, now computed, of the same dtype and shape."""
        if node.dtype is not self.dtype or node.shape != self.shape:
            raise TensorError(f"rebind: {self.dtype} {show(self.shape)} cannot hold {node.dtype} {show(node.shape)}")
        if not self.requires_grad:
            computed(node, self._node)
        self._take(node)

    def assign(self, value: Operand) -> Self:
        """Give this tensor a new value, broadcast to its shape and of its dtype; return this tensor.

        Raises `ShapeError` where the value is larger, `DTypeError` where its dtype is, `DeviceMismatch`.
        """
        _, (mine, theirs) = nodes_of("assign", self, value)
        if mine.shape != self.shape:
            raise ShapeError(f"assign: a value of shape {show(theirs.shape)} does not fit into {show(self.shape)}")
        if mine.dtype is not self.dtype:
            raise DTypeError(f"assign: {mine.dtype} does not fit into {self.dtype}; cast the value to {self.dtype}")
        self._take(theirs)
        return self

    def __iadd__(self, value: Operand) -> Self:
        return self.assign(elementwise.add(self, value))

    def __isub__(self, value: Operand) -> Self:
        return self.assign(elementwise.sub(self, value))

    def __imul__(self, value: Operand) -> Self:
        return self.assign(elementwise.mul(self, value))

    def __itruediv__(self, value: Operand) -> Self:
        return self.assign(elementwise.div(self, value))

    # --- Python ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        where = "" if self.device == DEFAULT_DEVICE else f", device={self.device!r}"
        if self.node.op != "source":
            return f"<Tensor {self.dtype}{list(self.shape)}, not computed{where}>"
        array = realising.contents(self)
        text = np.array2string(_plain(array), separator=", ", prefix="Tensor(", precision=6)
        return f"Tensor({text}, {self.dtype}{where})"

    def __copy__(self) -> Tensor:
        """Return another tensor of the same value, and a leaf of its own if this is one; it has no gradient yet."""
        other = Tensor.of(self.node, self.device)
        other.requires_grad = self.requires_grad
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the computed elements, the device's name and whether this is a leaf."""
        return Tensor, (self.numpy(), None, self.device, self.requires_grad)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor of rank 0")
        n = self.shape[0]
        if not isinstance(n, int):
            raise ShapeError(f"len: axis 0 of {show(self.shape)} is dynamic; it has no length yet")
        return n

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"bool: the truth of a tensor of shape {show(self.shape)} is ambiguous; use .any() or .all()"
            )
        return bool(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        value = self.item()
        if self.dtype.is_float:
            raise DTypeError(f"a tensor of {self.dtype} is no index; cast it to i32")
        return int(value)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a tensor of rank 0")
        return iter(movement.unbind(self))

    def __getitem__(self, key: indexing.Key) -> Tensor:
        return indexing.getitem(self, key)

    def __setitem__(self, key: indexing.Key, values: Operand) -> None:
        self._take(indexing.setitem(self, key, values).node)

    __hash__ = object.__hash__

    @property
    def T(self) -> Tensor:
        """This tensor with its axes in reverse order; for batches of matrices use `mT`."""
        return movement.permute(self, *reversed(range(self.ndim)))

    @property
    def mT(self) -> Tensor:
        """This tensor with its last two axes swapped."""
        return movement.transpose(self)

    # --- operators ------------------------------------------------------------------------------------------------

    __neg__ = elementwise.neg
    __pos__ = elementwise.positive
    __abs__ = elementwise.abs
    __invert__ = elementwise.bitwise_not
    __add__ = elementwise.add
    __sub__ = elementwise.sub
    __mul__ = elementwise.mul
    __truediv__ = elementwise.div
    __floordiv__ = elementwise.floor_divide
    __mod__ = elementwise.remainder
    __pow__ = elementwise.pow
    __matmul__ = products.matmul
    __and__ = elementwise.bitwise_and
    __or__ = elementwise.bitwise_or
    __xor__ = elementwise.bitwise_xor
    __lshift__ = elementwise.left_shift
    __rshift__ = elementwise.right_shift
    __lt__ = elementwise.lt
    __le__ = elementwise.le
    __gt__ = elementwise.gt
    __ge__ = elementwise.ge

    def __eq__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return elementwise.eq(self, other) if is_operand(other) else NotImplemented

    def __ne__(self, other: Operand) -> Tensor:  # type: ignore[override]
        return elementwise.ne(self, other) if is_operand(other) else NotImplemented

    def __radd__(self, other: Operand) -> Tensor:
        return elementwise.add(other, self)

    def __rsub__(self, other: Operand) -> Tensor:
        return elementwise.sub(other, self)

    def __rmul__(self, other: Operand) -> Tensor:
        return elementwise.mul(other, self)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return elementwise.div(other, self)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return elementwise.floor_divide(other, self)

    def __rmod__(self, other: Operand) -> Tensor:
        return elementwise.remainder(other, self)

    def __rpow__(self, other: Operand) -> Tensor:
        return elementwise.pow(other, self)

    def __rmatmul__(self, other: NDArray[Any]) -> Tensor:
        return products.matmul(Tensor(other, device=self.device), self)

    def __rand__(self, other: Operand) -> Tensor:
        return elementwise.bitwise_and(other, self)

    def __ror__(self, other: Operand) -> Tensor:
        return elementwise.bitwise_or(other, self)

    def __rxor__(self, other: Operand) -> Tensor:
        return elementwise.bitwise_xor(other, self)

    def __rlshift__(self, other: Operand) -> Tensor:
        return elementwise.left_shift(other, self)

    def __rrshift__(self, other: Operand) -> Tensor:
        return elementwise.right_shift(other, self)

    # --- methods: the functions of the same names -----------------------------------------------------------------

    add = elementwise.add
    sub = elementwise.sub
    mul = elementwise.mul
    div = elementwise.div
    floor_divide = elementwise.floor_divide
    remainder = elementwise.remainder
    fmod = elementwise.fmod
    pow = elementwise.pow
    maximum = elementwise.maximum
    minimum = elementwise.minimum
    clip = elementwise.clip
    lt = elementwise.lt
    le = elementwise.le
    gt = elementwise.gt
    ge = elementwise.ge
    eq = elementwise.eq
    ne = elementwise.ne
    logical_not = elementwise.logical_not
    logical_and = elementwise.logical_and
    logical_or = elementwise.logical_or
    logical_xor = elementwise.logical_xor
    neg = elementwise.neg
    abs = elementwise.abs
    sign = elementwise.sign
    square = elementwise.square
    reciprocal = elementwise.reciprocal
    sqrt = elementwise.sqrt
    rsqrt = elementwise.rsqrt
    exp = elementwise.exp
    exp2 = elementwise.exp2
    expm1 = elementwise.expm1
    log = elementwise.log
    log2 = elementwise.log2
    log10 = elementwise.log10
    log1p = elementwise.log1p
    sin = elementwise.sin
    cos = elementwise.cos
    tan = elementwise.tan
    tanh = elementwise.tanh
    sigmoid = elementwise.sigmoid
    erf = elementwise.erf
    floor = elementwise.floor
    ceil = elementwise.ceil
    round = elementwise.round
    trunc = elementwise.trunc
    isnan = elementwise.isnan
    isinf = elementwise.isinf
    isfinite = elementwise.isfinite
    cast = elementwise.cast
    bitcast = elementwise.bitcast
    detach = elementwise.detach
    contiguous = elementwise.contiguous

    reshape = movement.reshape
    flatten = movement.flatten
    unflatten = movement.unflatten
    squeeze = movement.squeeze
    unsqueeze = movement.unsqueeze
    expand = movement.expand
    broadcast_to = movement.broadcast_to
    permute = movement.permute
    transpose = movement.transpose
    moveaxis = movement.moveaxis
    flip = movement.flip
    roll = movement.roll
    shrink = movement.shrink
    narrow = movement.narrow
    split = movement.split
    chunk = movement.chunk
    unbind = movement.unbind
    diagonal = movement.diagonal
    pad = movement.pad
    tile = movement.tile
    repeat = movement.repeat
    repeat_interleave = movement.repeat_interleave

    sum = reductions.sum
    prod = reductions.prod
    max = reductions.max
    min = reductions.min
    mean = reductions.mean
    var = reductions.var
    std = reductions.std
    any = reductions.any
    all = reductions.all
    argmax = reductions.argmax
    argmin = reductions.argmin
    logsumexp = reductions.logsumexp
    norm = reductions.norm
    count_nonzero = reductions.count_nonzero

    matmul = products.matmul
    dot = products.dot

    gather = indexing.gather
    scatter = indexing.scatter
    scatter_add = indexing.scatter_add
    take = indexing.take
    take_along_axis = indexing.take_along_axis

    cumsum = scans.cumsum
    cumprod = scans.cumprod
    cummax = scans.cummax
    cummin = scans.cummin
    diff = scans.diff

    sort = sorting.sort
    argsort = sorting.argsort
    topk = sorting.topk

    masked_fill = masking.masked_fill
    masked_select = masking.masked_select
    nonzero = masking.nonzero

    relu = activations.relu
    gelu = activations.gelu
    silu = activations.silu
    leaky_relu = activations.leaky_relu
    elu = activations.elu
    softplus = activations.softplus

    softmax = normalisation.softmax
    log_softmax = normalisation.log_softmax
