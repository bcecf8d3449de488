"""Adam's tuned learning rate for every family of the suites, and the margin by which 200 steps beat a constant guess.

The learning rate is the best of 1e-3, 3e-3, 1e-2, 3e-2 and 1e-1 on the loss of the last 50 of 200 minibatches of 32;
the margin is about two thirds of the improvement that was reached.
"""

from typing import NamedTuple


class AdamSetting(NamedTuple):
    """`margin` m: the loss falls below (1 - m) times that of the constant guess."""

    learning_rate: float
    margin: float


ADAM = {
    "fmnist8_mlp32": AdamSetting(1e-2, 0.4),
}
