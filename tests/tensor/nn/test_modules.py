"""Modules: what belongs to them, their settings and their states."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.errors import ShapeError, UsageError
from portkit.tensor import random, safetensors
from portkit.tensor.nn import BatchNorm, Dropout, Linear, Module, ReLU, Sequential, parameter_count
from portkit.tensor.optim import SGD
from portkit.tensor.tensor import Tensor


class Net(Module):
    def __init__(self) -> None:
        self.body = Sequential(Linear(3, 4), ReLU(), BatchNorm(4))
        self.heads = [Linear(4, 2), Linear(4, 2, bias=False)]
        self.more = {"scale": Tensor(np.ones(2, np.float32), requires_grad=True)}
        self.offset = Tensor(np.zeros(2, np.float32))
        self._cache = Tensor(np.zeros(7, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return (self.heads[0](x) + self.heads[1](x)) * self.more["scale"] + self.offset


PARAMETERS = [
    "more.scale",
    "body.0.weight",
    "body.0.bias",
    "body.2.weight",
    "body.2.bias",
    "heads.0.weight",
    "heads.0.bias",
    "heads.1.weight",
]
X = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)


def test_parameters_and_state_are_named_by_their_paths() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == PARAMETERS
    state = {"offset", "body.2.running_mean", "body.2.running_var"}
    assert {name for name, _ in net.named_tensors()} == {*PARAMETERS, *state}
    assert parameter_count(net) == 2 + 12 + 4 + 4 + 4 + 8 + 2 + 8


def test_a_shared_parameter_counts_once() -> None:
    net = Sequential(Linear(3, 3), Linear(3, 3))
    first, second = (layer for layer in net if isinstance(layer, Linear))
    second.weight = first.weight
    assert len(net.parameters()) == 3


def test_the_first_call_computes_the_parameters() -> None:
    net = Net()
    net(Tensor(X))
    assert {t.node.op for t in net.parameters()} == {"source"}


def test_equal_seeds_make_equal_networks() -> None:
    states: list[dict[str, np.ndarray]] = []
    for _ in range(2):
        random.seed(3)
        states.append({name: t.numpy() for name, t in Net().state_dict().items()})
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])
    assert np.unique(states[0]["body.0.weight"]).size == 12


def test_training_is_set_at_every_depth() -> None:
    net = Net()
    assert {m.training for _, m in net.modules()} == {True}
    assert {m.training for _, m in net.eval().modules()} == {False}
    assert {m.training for _, m in net.train().modules()} == {True}


def test_frozen_parameters_are_state() -> None:
    net = Net()
    net.body.freeze()
    assert [n for n, _ in net.named_parameters()] == [n for n in PARAMETERS if not n.startswith("body")]
    assert set(net.state_dict()) == {name for name, _ in Net().named_tensors()}


def test_casting_converts_what_is_there_and_keeps_references_to_it() -> None:
    net = Net()
    weight = net.body[0].weight  # type: ignore[attr-defined]
    before = weight.numpy()
    optimizer = SGD(net.parameters(), 0.5)
    net.cast("f64")
    assert {t.dtype.name for _, t in net.named_tensors()} == {"f64"}
    net(Tensor(X.astype(np.float64))).sum().backward()
    optimizer.step()
    assert weight.dtype.name == "f64"
    assert (weight.numpy() != before).any()


def test_a_state_makes_another_module_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    net, other = Net(), Net()
    net(Tensor(X))
    place = tmp_path_factory.mktemp("state") / "net.safetensors"
    safetensors.save(net.state_dict(), place)
    other.load_state_dict(safetensors.load(place))
    np.testing.assert_array_equal(other.eval()(Tensor(X)).numpy(), net.eval()(Tensor(X)).numpy())


def test_a_state_is_that_of_the_moment() -> None:
    net = Linear(2, 2)
    state = net.state_dict()
    before = state["weight"].numpy()
    net(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    SGD(net.parameters(), 1.0).step()
    np.testing.assert_array_equal(state["weight"].numpy(), before)
    assert (net.weight.numpy() != before).all()


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    net = Linear(2, 2)
    before = net.weight.numpy()
    good = {"weight": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)}
    with pytest.raises(UsageError, match=r"missing \['bias'\], unknown \['what'\]"):
        net.load_state_dict({"weight": good["weight"], "what": good["bias"]})
    with pytest.raises(ShapeError, match=r"'bias' is \(3,\), the module has \(2,\)"):
        net.load_state_dict({**good, "bias": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(net.weight.numpy(), before)
    net.load_state_dict({"weight": good["weight"], "what": good["bias"]}, strict=False)
    np.testing.assert_array_equal(net.weight.numpy(), good["weight"])


def test_a_state_in_another_dtype_is_converted() -> None:
    net = Linear(1, 1, bias=False)
    net.load_state_dict({"weight": np.array([[0.1]])})
    assert net.weight.numpy()[0, 0] == np.float32(0.1)


def test_what_other_libraries_count_in_a_batch_norm_is_dropped() -> None:
    net = Sequential(BatchNorm(2))
    state = {name: t.numpy() for name, t in net.state_dict().items()}
    net.load_state_dict({**state, "0.num_batches_tracked": np.array(5)})
    with pytest.raises(UsageError, match="unknown"):
        net.load_state_dict({**state, "num_batches_tracked": np.array(5)})


def test_a_module_is_shown_with_what_is_inside() -> None:
    assert repr(Sequential(Linear(3, 4), Sequential(ReLU(), Dropout(0.25)))) == (
        "Sequential(\n  (0): Linear(3 -> 4)\n  (1): Sequential(\n    (0): ReLU()\n    (1): Dropout(0.25)\n  )\n)"
    )


def test_a_module_without_forward_is_told() -> None:
    with pytest.raises(UsageError, match="Module defines no forward"):
        Module()(1)


def test_a_sequence_of_other_things_than_modules_is_refused() -> None:
    with pytest.raises(UsageError, match="Sequential takes modules, got 1"):
        Sequential(ReLU(), 1)  # type: ignore[arg-type]
