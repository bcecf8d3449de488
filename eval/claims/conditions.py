"""Conditions under which communication is no full average of all workers.

    full                     every worker, every message as it is
    8, 4 and 2 bits          quantized messages with error feedback; at 2 bits in statistical bins
    top-k                    64 of every 4,096 elements in 2 bits, with error feedback as in SparseLoCo
    ring, exponential        gossip: each worker averages with neighbours, and runs the server optimizer for itself
    late workers             a worker in six is late, in bursts of two rounds, and left out
    half of them             each worker takes part in a round with probability 1/2

A server optimizer that reads every worker has none to read in gossip; one that reads statistics of the workers runs
there as on one machine.
"""

from collections.abc import Callable

import optax

from learned_opt.algorithms.compression.quantize import quantize
from learned_opt.algorithms.compression.top_k import top_k
from learned_opt.algorithms.compression.upload import Upload, error_feedback
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.topology import one_peer_exponential, ring
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.stragglers.gilbert_elliott import GilbertElliott, participation
from learned_opt.algorithms.stragglers.late_workers import late_workers
from learned_opt.base import LocalAlgorithm

Transform = optax.GradientTransformation
Condition = Callable[[Transform, Transform, int], LocalAlgorithm]
"""(the workers' optimizer, server optimizer, K) -> algorithm of one worker."""

FULL = "full"
GOSSIP = ("ring", "exponential")
"""Conditions under which a worker meets some of the others only."""


def _sent_as(upload: Upload) -> Condition:
    return lambda workers, server, num_workers: local_sgd(
        workers, server, upload.transform, bytes_sent=upload.bytes_sent
    )


def _without_late(chain: GilbertElliott) -> Condition:
    return lambda workers, server, num_workers: local_sgd(workers, server, late_workers(chain))._replace(waits=False)


CONDITIONS: dict[str, Condition] = {
    FULL: lambda workers, server, num_workers: local_sgd(workers, server),
    "8 bits": _sent_as(error_feedback(quantize(8))),
    "4 bits": _sent_as(error_feedback(quantize(4))),
    "2 bits": _sent_as(error_feedback(quantize(2, "statistical"))),
    "top-k": _sent_as(error_feedback(top_k(), 0.95)),
    "ring": lambda workers, server, num_workers: dpsgd(workers, ring(num_workers), server),
    "exponential": lambda workers, server, num_workers: dpsgd(workers, one_peer_exponential(num_workers), server),
    "late workers": _without_late(GilbertElliott(0.1, 0.5)),
    "half of them": _without_late(participation(0.5)),
}
"""In the order of the table."""
