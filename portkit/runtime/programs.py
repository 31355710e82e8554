"""Compiled programs of one device, in memory and in the cache folder, by what their graph computes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from portkit.compiler.compile import compile_graph
from portkit.compiler.graph import Node, Source
from portkit.compiler.graph_key import graph_key
from portkit.compiler.program import Program
from portkit.compiler.serial import from_bytes, to_bytes
from portkit.runtime.buffers import Buffer
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.replay import run
from portkit.runtime.trace import active

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Kept:
    """A program, and which source of the graph, in the order of its key, each of its inputs is."""

    program: Program
    places: tuple[int, ...]


class Programs:
    """Compiles each graph once; safe to use from several threads."""

    def __init__(self, device: RuntimeDevice) -> None:
        """Compile for `device`, whose cache folder keeps the results."""
        self._device = device
        self._lock = threading.RLock()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def program(self, outputs: Sequence[Node]) -> tuple[Program, list[Source]]:
        """Return the program of a graph, and the source behind each of its inputs. Raises as `compile_graph`."""
        key, sources = graph_key(outputs)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = self._make(key, outputs, sources)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        return kept.program, [sources[place] for place in kept.places]

    def _make(self, key: bytes, outputs: Sequence[Node], sources: Sequence[Source]) -> Kept:
        kernels = self._device.kernels
        name = f"{hashlib.sha256(kernels.identity + key).hexdigest()}.program"
        found = kernels.store.get(name)
        read = None if found is None else from_bytes(found)
        if read is not None:
            return Kept(*read)
        compiled = compile_graph(outputs, self._device.capabilities)
        place = {id(source): at for at, source in enumerate(sources)}
        places = tuple(place[id(source)] for source in compiled.sources)
        kernels.store.put(name, to_bytes(compiled.program, places))
        return Kept(compiled.program, places)


def compute(
    device: RuntimeDevice,
    outputs: Sequence[Node],
    buffer_of: Callable[[Source], Buffer],
    variables: Mapping[str, int] | None = None,
) -> list[Buffer]:
    """Start the computation of graph nodes and return their buffers, complete once the device is synchronised.

    `buffer_of` gives the contents of a source. `variables` has the dynamic dimensions by name, once `buffer_of` was
    asked for all contents: they tell what the dimensions are. Buffers hold elements as the device stores them
    (`portkit.compiler.storage`). Raises as `compile_graph` and `run_program`.
    """
    trace = active()
    if trace is not None:
        return trace.compute(device, outputs, buffer_of, variables)
    program, sources = device.programs.program(outputs)
    inputs = [buffer_of(source) for source in sources]
    return run(device, program, inputs, variables)
