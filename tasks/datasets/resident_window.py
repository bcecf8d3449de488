"""Datasets larger than the memory of the device: a window of the training set is resident, and swapped between
meta-steps.

Every `swap_every` meta-steps the window is exchanged for the next W of the N rows. In a cycle of ceil(N / W) windows
the rows are dealt out in a random order, so that each is resident at least once (the last window of a cycle is filled
up with rows of its first). Which rows are resident depends on (seed, meta_step) alone, so a resumed run sees the same
ones; and every window has the same shape, so nothing is compiled again. Batches are then drawn from the window as
from a dataset.

Within a window, batches repeat its rows more often than those of the whole set: `swap_every` trades transfers for that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tasks.base import Data


class ResidentWindow(NamedTuple):
    """A dataset of which a part is on the device.

    Attributes:
      at: meta_step -> data with the window of that meta-step as `train` and the other splits whole. The same arrays are
        returned until the next swap. While a window is swapped the old one stays in memory for as long as the caller
        holds it: the device needs room for two.
      num_rows: W, rows in a window.
      num_windows: windows in a cycle; 1 if the training set fits as a whole.
    """

    at: Callable[[int], Data]
    num_rows: int
    num_windows: int


def resident_window(
    data: Data,
    max_bytes: int,
    swap_every: int = 1,
    seed: int = 0,
    put: Callable[[Any], Any] = jax.device_put,
) -> ResidentWindow:
    """Keeps at most `max_bytes` of the training set on the device at a time.

    Args:
      data: `{split: {leaf: [N, ...]}}` on the host; NumPy arrays, which may be memory-mapped files.
      max_bytes: size of the window on the device.
      swap_every: meta-steps between swaps.
      seed: of the order of the rows.
      put: host arrays -> device arrays, e.g. with the sharding of a trainer.

    Raises:
      ValueError: swap_every below 1, or not even one row fits.
    """
    train = data["train"]
    num_examples = len(next(iter(train.values())))
    row_bytes = sum(leaf.nbytes for leaf in train.values()) // num_examples
    num_rows = min(max_bytes // row_bytes, num_examples)
    if num_rows < 1:
        raise ValueError(f"max_bytes={max_bytes}: a row of the training set has {row_bytes} bytes")
    if swap_every < 1:
        raise ValueError(f"swap_every={swap_every}: use at least 1 meta-step")
    num_windows = -(-num_examples // num_rows)
    whole = put({split: dict(rows) for split, rows in data.items() if split != "train"})
    resident: dict[int, Data] = {}

    def at(meta_step: int) -> Data:
        swap = meta_step // swap_every if num_windows > 1 else 0
        if swap not in resident:
            resident.clear()
            index = window_rows(num_examples, num_rows, swap, seed)
            resident[swap] = {"train": put({name: leaf[index] for name, leaf in train.items()}), **whole}
        return resident[swap]

    return ResidentWindow(at, num_rows, num_windows)


def window_rows(num_examples: int, num_rows: int, swap: int, seed: int) -> np.ndarray:
    """Indices [num_rows] of the rows that are resident after `swap` swaps, in ascending order (which reads a file
    from front to back; batches are drawn at random anyway)."""
    cycle, window = divmod(swap, -(-num_examples // num_rows))
    order = np.random.default_rng([seed, cycle]).permutation(num_examples)
    return np.sort(order[(window * num_rows + np.arange(num_rows)) % num_examples])
