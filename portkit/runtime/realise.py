"""Computing nodes of a graph on a device: compiled once for each structure, then replayed with other sources."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from portkit.compiler.compile import Compiled, compile_graph
from portkit.compiler.graph import Node, Source, unmarked
from portkit.compiler.structure import structure
from portkit.runtime.buffers import Buffer
from portkit.runtime.devices import RuntimeDevice
from portkit.runtime.execute import run_program
from portkit.runtime.replay import run

_KEPT = 256
_WITHOUT_MEANING = ("detach", "input", "checkpoint")

_compiled: WeakKeyDictionary[RuntimeDevice, OrderedDict[Any, tuple[Compiled, tuple[int, ...]]]] = WeakKeyDictionary()
_seen: WeakKeyDictionary[Compiled, int] = WeakKeyDictionary()


def realise(
    device: RuntimeDevice,
    outputs: Sequence[Node],
    buffer_of: Callable[[Source], Buffer],
    variables: Mapping[str, int] | None = None,
) -> list[Buffer]:
    """Compute nodes together and return a buffer for each; `buffer_of` gives the contents of a source on the device.

    The buffers hold elements as the device stores them (`portkit.compiler.storage`). A structure that is met again is
    not compiled again. Raises what the compiler and the device raise.
    """
    compiled, sources = compiled_for(device, outputs)
    inputs = [buffer_of(source) for source in sources]
    # What runs once is not worth planning; what runs again is recorded and replayed.
    times = _seen[compiled] = _seen.get(compiled, 0) + 1
    return (run_program if times == 1 else run)(device, compiled.program, inputs, variables)


def compiled_for(device: RuntimeDevice, outputs: Sequence[Node]) -> tuple[Compiled, list[Source]]:
    """Return the compiled form of a graph, and the sources of this graph in the order of the program's inputs."""
    plain = unmarked(outputs, _WITHOUT_MEANING)
    key, sources = structure(plain)
    known = _compiled.setdefault(device, OrderedDict())
    with device.lock:
        if key not in known:
            made = compile_graph(plain, device.capabilities)
            known[key] = made, tuple(sources.index(s) for s in made.sources)
            if len(known) > _KEPT:
                known.popitem(last=False)
        known.move_to_end(key)
        compiled, order = known[key]
    return compiled, [sources[i] for i in order]
