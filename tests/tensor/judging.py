"""How tests look at tensors: by the meaning of their graphs in NumPy, so that no compiler is between."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from portkit.compiler import graph
from portkit.compiler.evaluate import evaluate
from portkit.tensor.base import HostBuffer
from portkit.tensor.tensor import Tensor


def value(tensor: Tensor, *, wide: bool = False) -> NDArray[Any]:
    """Return what a tensor of data of the host means; with `wide`, computed in f64 throughout."""
    sources = [n.attr for n in graph.topological([tensor.node]) if n.op == "source"]
    held = {s: s.buffer.array for s in sources if isinstance(s.buffer, HostBuffer)}
    return evaluate([tensor.node], held, wide=wide)[0]


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return f32 numbers of a normal distribution, the same for ever."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
