"""Open devices: one by name, until it is closed; none survives a fork; threads take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from portkit.contract import find_backend
from portkit.errors import CannotRunHere, DeviceHang, DeviceLost, UsageError
from portkit.runtime.devices import RuntimeDevice, open_device
from portkit.runtime.execute import run_program
from portkit.runtime.launches import LaunchQueue
from portkit.runtime.replay import run
from tests.runtime.programs import COUNT, chain, given, told


@pytest.fixture(autouse=True)
def _none_stays_open() -> Iterator[None]:
    yield
    open_device("cpu").close()


def test_a_name_gives_the_same_device_until_it_is_closed() -> None:
    first = open_device("cpu")
    assert open_device("cpu") is first
    first.close()
    first.close()
    second = open_device("cpu")
    assert second is not first
    with pytest.raises(DeviceLost, match="closed"):
        first.allocate(8)


def test_the_default_is_cpu_or_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTKIT_DEVICE", raising=False)
    assert open_device().name == "cpu"
    monkeypatch.setenv("PORTKIT_DEVICE", "")
    assert open_device().name == "cpu"
    monkeypatch.setenv("PORTKIT_DEVICE", "tests.runtime.programs:PLAIN")
    with open_device() as device:
        assert device.name == "limited"
    monkeypatch.setenv("PORTKIT_DEVICE", "cpy")
    with pytest.raises(UsageError, match="did you mean cpu"):
        open_device()


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = find_backend("cpu")
    monkeypatch.setattr(type(backend), "probe", lambda self: "no chip here")
    with pytest.raises(CannotRunHere, match="no chip here"):
        RuntimeDevice(backend)


FORKING = """
import os, numpy as np
from portkit.errors import DeviceLost
from portkit.runtime.devices import open_device
from portkit.runtime.replay import run
from tests.runtime.programs import chain, given, told

def works(device):
    return bool((told(run(device, chain(3), given(device, 1.0))[0]) == 4).all())

device = open_device()
kept = given(device, 1.0)
assert works(device)
child = os.fork()
if child == 0:
    code = 1
    try:
        device.allocate(8)
    except DeviceLost as error:
        assert "fork" in str(error)
        kept.clear()
        fresh = open_device()
        code = 0 if fresh is not device and works(fresh) else 2
    finally:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert works(device) and (told(kept[0]) == 1).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_opens_a_device_of_its_own_and_leaves_the_parents_alone() -> None:
    code = "import warnings; warnings.simplefilter('ignore')\n" + FORKING
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_on_one_device_each_get_their_own_results() -> None:
    device, program, wrong = open_device("cpu"), chain(5), list[float]()

    def work(value: float) -> None:
        for _ in range(30):
            for runner in (run, run_program):
                (result,) = runner(device, program, given(device, value))
                wrong.extend(np.unique(told(result))[np.unique(told(result)) != value + 5].tolist())

    threads = [threading.Thread(target=work, args=(float(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Late:
    """A device whose errors show up when it is waited for."""

    def __init__(self) -> None:
        self.fault = False

    def launch(self, *_: Any) -> None:
        pass

    def synchronise(self, timeout: float) -> None:
        if self.fault:
            raise DeviceHang(f"no answer in {timeout} s")


def test_an_error_that_shows_up_late_names_the_kernels_started_since_the_last_wait() -> None:
    device = Late()
    queue = LaunchQueue(device)  # type: ignore[arg-type]
    queue.launch("before", None, [], [], [])  # type: ignore[arg-type]
    queue.synchronise()
    for name in ("one", "two", "one"):
        queue.launch(name, None, [], [], [])  # type: ignore[arg-type]
    device.fault = True
    with pytest.raises(DeviceHang, match=r"no answer in 2 s \(after 3 launches .* the latest first: one, two\)$"):
        queue.synchronise(2)
    with pytest.raises(DeviceHang, match=r"no answer in 2 s$"):
        queue.synchronise(2)


def test_an_error_of_many_launches_names_the_last_few() -> None:
    device = Late()
    queue = LaunchQueue(device)  # type: ignore[arg-type]
    for number in range(1000):
        queue.launch(f"k{number}", None, [], [], [])  # type: ignore[arg-type]
    device.fault = True
    with pytest.raises(DeviceHang, match=r"after 1000 launches .*: k999, k998, .*k992\)$"):
        queue.synchronise()


def test_a_device_says_what_it_is() -> None:
    device = open_device("cpu")
    assert "threads" in device.info.device
    assert device.capabilities.name == "cpu"
    device.synchronise()
    assert device.allocate(4 * COUNT).size == 4 * COUNT
