"""What a contender had spent at every point of its curve: bytes, gradients, simulated seconds, [seeds, points].

An algorithm that chooses how often it communicates, or how many local steps it takes, is charged for what it did.
"""

import numpy as np
from jaxtyping import Float

from eval.protocol import EvalProtocol
from eval.results import ContenderResult
from eval.scores.network import Network


def bytes_sent(contender: ContenderResult) -> Float[np.ndarray, "seeds points"]:
    """By one worker."""
    return communications(contender) * contender.bytes_per_round


def bytes_received(contender: ContenderResult) -> Float[np.ndarray, "seeds points"]:
    """By one worker; as many as it sent where that was not recorded."""
    received = contender.cost.get("bytes_received")
    return communications(contender) * (contender.bytes_per_round if received is None else received)


def gradients(contender: ContenderResult, protocol: EvalProtocol) -> Float[np.ndarray, "seeds points"]:
    """Minibatch gradients of all workers together."""
    steps = contender.counts.get("num_local_steps")
    if steps is not None:
        return steps.astype(np.float64) * protocol.num_workers
    a_round = contender.cost.get("gradients")
    a_round = protocol.num_local_steps if a_round is None else a_round
    return _rounds(contender) * a_round * protocol.num_workers


def seconds(contender: ContenderResult, protocol: EvalProtocol, network: Network) -> Float[np.ndarray, "seeds points"]:
    """Simulated time."""
    times = communications(contender)
    # Those that average after every gradient have a latency for each.
    peak = contender.cost.get("peak_bytes")
    messages = 1 if not peak else max(1, round(contender.bytes_per_round / peak))
    received = float(contender.cost.get("bytes_received") or 0)
    message = times * network.message_seconds(contender.bytes_per_round, received)
    waits = contender.cost.get("waits") != 0
    slowness = network.slowness(int(contender.rounds[-1]), protocol.num_workers, waits)
    # Gradients of one worker between two points, at the mean slowness of their rounds.
    of_rounds = np.concatenate([[0.0], np.cumsum(slowness)])[np.concatenate([[0], contender.rounds])]
    mean_slowness = np.diff(of_rounds) / np.diff(np.concatenate([[0], contender.rounds]))
    own = np.diff(gradients(contender, protocol) / protocol.num_workers, axis=1, prepend=0.0)
    compute = np.cumsum(own * mean_slowness[None], axis=1) * network.gradient_seconds
    return times * messages * network.latency + message + compute


def communications(contender: ContenderResult) -> Float[np.ndarray, "seeds points"]:
    """How often workers communicated: once a round, unless counted."""
    counted = contender.counts.get("communications")
    return _rounds(contender) if counted is None else counted.astype(np.float64)


def _rounds(contender: ContenderResult) -> np.ndarray:
    return np.broadcast_to(contender.rounds.astype(np.float64), contender.train_loss.shape)
