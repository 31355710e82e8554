"""Train a small convolutional network on the handwritten digits that come with scikit-learn.

`python examples/digits/train.py [--epochs N] [--device NAME] [--seed N] [--json]`

1,797 images of 8 x 8, of which one fifth, the same share of every digit, is kept for the test. Prints the share that
the network reads right, the time, and a digest of the losses: two runs on one device give the same, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn import datasets, model_selection

from portkit.tensor import Tensor, max_pool, nn, optim, random
from portkit.tensor import functional as F
from portkit.tensor.jit import jit

BATCH = 64
Images = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Result:
    """What a training gave: the share of the test set that is right, seconds, and a digest of the loss curve."""

    accuracy: float
    seconds: float
    losses: str


class Net(nn.Module):
    """Two convolutions, a maximum over 2 x 2, and one linear layer."""

    def __init__(self) -> None:
        """Draw the parameters."""
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.drop = nn.Dropout(0.4)
        self.last = nn.Linear(64 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the ten digits; `x` is (batch, 1, 8, 8)."""
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.last(self.drop(max_pool(x, 2).flatten(1)))


def split() -> tuple[Images, Images, Labels, Labels]:
    """Return images and labels to train with and to test with, always the same."""
    data: Any = datasets  # few of its functions are typed
    digits = data.load_digits()
    images: Images = (digits.images[:, None] / 16).astype(np.float32)
    labels: Labels = digits.target.astype(np.int32)
    models: Any = model_selection
    train, test, of_train, of_test = models.train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return train, test, of_train, of_test


def train(epochs: int, device: str, seed: int, *, quiet: bool) -> Result:
    """Train from scratch; the bar goes to standard error, and only to a terminal."""
    began = time.perf_counter()
    images, test_images, labels, test_labels = split()
    random.seed(seed)
    net = Net()
    optimizer = optim.Adam(net.parameters(), 2e-3)

    @jit
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    order = np.random.default_rng(seed)
    curve: list[Tensor] = []
    with progress(quiet) as bar:
        task = bar.add_task("training", total=epochs, loss="")
        for _ in range(epochs):
            shuffled = order.permutation(len(images))
            for start in range(0, len(images) - BATCH + 1, BATCH):
                chosen = shuffled[start : start + BATCH]
                shown = shifted(images[chosen], order)
                curve.append(step(Tensor(shown, device=device), Tensor(labels[chosen], device=device)))
            bar.update(task, advance=1, loss=f"loss {curve[-1].item():.4f}")
    net.eval()
    found = net(Tensor(test_images, device=device)).argmax(axis=1).numpy()
    losses = np.array([loss.item() for loss in curve], np.float32)
    digest = hashlib.sha256(losses.tobytes()).hexdigest()[:16]
    return Result(float((found == test_labels).mean()), time.perf_counter() - began, digest)


def shifted(images: Images, generator: np.random.Generator) -> Images:
    """Return each image moved by at most one pixel in each direction; what leaves at one side is lost."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = generator.integers(0, 3, (len(images), 2))
    return np.stack([image[:, y : y + 8, x : x + 8] for image, (y, x) in zip(padded, places, strict=True)])


def progress(quiet: bool) -> Progress:
    """Return the bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)


def main() -> int:
    """Train, print, and return the exit code: 1 where fewer than 98 % are read right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = train(options.epochs, options.device, options.seed, quiet=options.json)
    if options.json:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
    else:
        right = f"{100 * result.accuracy:.2f} % of the test set right"
        sys.stdout.write(f"{right}, {result.seconds:.1f} s, losses {result.losses}\n")
    return 0 if result.accuracy >= 0.98 else 1


if __name__ == "__main__":
    sys.exit(main())
