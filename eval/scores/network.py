"""Simulated time: latency, bandwidth, gradients, and workers that are slow now and then.

    a communication   latency + bytes sent / bandwidth + bytes received / download bandwidth
    a local step      gradient_seconds for every gradient of it, `slow_factor` times that on a slow worker

A worker is fast or slow for bursts of rounds (Gilbert 1960; Elliott 1963): slow with probability `slow_down` after a
fast round, fast with probability `recover` after a slow one. A round takes as long as its slowest worker, for an
algorithm that does not wait as long as its fastest. Everyone meets the same slow workers.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

SEED = 0
"""Of who is slow when."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What time is reckoned with; it changes no training."""

    latency: float = 0.05
    """Simulated seconds that a communication costs in any case."""
    bandwidth: float = 12.5e6
    """Simulated bytes a second from each worker; 12.5e6 is 100 Mbit/s."""
    download_bandwidth: float | None = None
    """Simulated bytes a second to each worker; none: downloads cost nothing."""
    gradient_seconds: float = 0.0
    """Simulated seconds of one minibatch gradient; 0 counts communication alone."""
    slow_down: float = 0.0
    """Probability, a round, that a fast worker becomes slow."""
    recover: float = 0.5
    """Probability, a round, that a slow worker becomes fast."""
    slow_factor: float = 10.0
    """How many times as long as a fast worker a slow one takes for a gradient."""

    def __post_init__(self) -> None:
        for field in ("latency", "gradient_seconds"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field}={getattr(self, field)}: use 0 or more seconds")
        for field in ("bandwidth", "download_bandwidth"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"{field}={value}: use a positive number of bytes a second")
        for field in ("slow_down", "recover"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: use a probability, 0 to 1")
        if not self.slow_factor >= 1:
            raise ValueError(f"slow_factor={self.slow_factor}: use 1 or more")

    def message_seconds(self, sent: float, received: float) -> float:
        """Time of those bytes of one worker, without latency."""
        download = 0.0 if self.download_bandwidth is None else received / self.download_bandwidth
        return sent / self.bandwidth + download

    def slowness(self, num_rounds: int, num_workers: int, waits: bool) -> Float[np.ndarray, "rounds"]:
        """How many times as long as for a fast worker the gradients of every round take."""
        slow = slow_workers(num_rounds, num_workers, self.slow_down, self.recover)
        is_late = slow.any(axis=1) if waits else slow.all(axis=1)
        return np.where(is_late, self.slow_factor, 1.0)

    def words(self) -> str:
        """A sentence."""
        download = "" if self.download_bandwidth is None else f", {self.download_bandwidth:g} to it"
        slow = ""
        if self.slow_down:
            slow = (
                f"; a fast worker becomes {self.slow_factor:g} times as slow with probability {self.slow_down:g} a "
                f"round and recovers with {self.recover:g}"
            )
        return (
            f"Simulated seconds: {self.latency:g} s latency a communication and {self.bandwidth:g} bytes a second from "
            f"each worker{download}, {self.gradient_seconds:g} s for a minibatch gradient{slow}."
        )


DEFAULT_NETWORK = Network()


def slow_workers(num_rounds: int, num_workers: int, slow_down: float, recover: float) -> np.ndarray:
    """Which workers are slow, bool [rounds, workers]; all are fast before the first round."""
    uniform = np.random.default_rng(SEED).random((num_rounds, num_workers))
    slow = np.zeros((num_rounds, num_workers), bool)
    before = np.zeros(num_workers, bool)
    for i in range(num_rounds):
        before = slow[i] = uniform[i] < np.where(before, 1 - recover, slow_down)
    return slow
