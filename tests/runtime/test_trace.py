"""Tracing: what kernels were made from is recorded, and nothing in it can break the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from portkit.runtime.trace import Event, Made, Trace, recording, write
from portkit.tensor import Tensor
from portkit.tensor import functional as F


def traced() -> Trace:
    with recording() as trace:
        x = Tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
        F.softmax(x).realize()
        (x + 1).realize()
        (x + 2).realize()
    return trace


def test_every_launch_is_recorded_with_its_kernel() -> None:
    trace = traced()
    assert len(trace.events) == 3
    assert len(trace.graphs) == 3
    assert [event.graph for event in trace.events] == [0, 1, 2]
    assert "exp" in trace.graphs[0]
    assert "exp" in trace.made[trace.events[0].made].nest
    assert trace.made[0].kernel.startswith("portkit ")
    assert all(event.seconds > 0 and event.bytes > 0 for event in trace.events)


def test_what_is_computed_while_tracing_is_the_same() -> None:
    x = Tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    with recording():
        inside = F.softmax(x).numpy()
    np.testing.assert_array_equal(inside, F.softmax(x).numpy())


def test_nothing_is_recorded_after_a_trace() -> None:
    trace = traced()
    Tensor([1.0]).exp().realize()
    assert len(trace.events) == 3


def test_the_text_names_each_launch_and_kernel() -> None:
    text = traced().text()
    assert "3 launches" in text
    assert "== k0:" in text
    assert "kept because: output" in text


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    trace = Trace(device="<script>alert(1)</script>")
    trace.made.append(Made("<b>", "</pre><script>", "<i>", "&", "</details>", "<style>"))
    trace.events.append(Event(0, 0, 0.0, 1e-3, 8))
    write(trace, tmp_path / "trace.html")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page
    assert "</pre><script>" not in page
    assert [p.name for p in tmp_path.iterdir()] == ["trace.html"]


def test_a_trace_of_nothing_is_a_page_too(tmp_path: Path) -> None:
    write(Trace(), tmp_path / "trace.html")
    assert "nothing was computed" in (tmp_path / "trace.html").read_text(encoding="utf-8")


def test_the_environment_variable_traces_a_whole_process(tmp_path: Path) -> None:
    target = tmp_path / "trace.txt"
    script = "from portkit.tensor import Tensor; Tensor([1.0, 2.0]).exp().realize()"
    subprocess.run([sys.executable, "-c", script], check=True, env={"PORTKIT_EXPLAIN": str(target), "PATH": ""})
    assert "1 launches of 1 kernels" in target.read_text(encoding="utf-8")
