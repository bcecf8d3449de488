"""Rivals that send fewer bytes, all at once or in fragments; settings by name, as in `quantized_diloco,bits=8`.

quantized_diloco          4 bits with error feedback (Douillard et al. 2025, arXiv 2501.18512)
quantized_diloco_2bit     2 bits in statistical bins, with error feedback
sparse_loco               top-k in 2 bits with error feedback (Sarfi et al. 2025, arXiv 2508.15706)
streaming_diloco          a fragment of the model a round, in turn (Douillard et al. 2025)
greedy_fragments          the fragment that moved most (Nutini et al. 2017, arXiv 1712.08859)
"""

from collections.abc import Callable

import jax
import optax

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis
from eval.compare.rivals.rival import ADAM_LR, DILOCO_GRID, SERVER_LR, Hparams, rival
from eval.protocol import EvalProtocol
from learned_opt.algorithms.compression.quantized_diloco import quantized_diloco
from learned_opt.algorithms.compression.sparse_loco import sparse_loco
from learned_opt.algorithms.fragments.greedy_fragments import greedy_fragments
from learned_opt.algorithms.fragments.streaming_diloco import streaming_diloco
from learned_opt.algorithms.server import diloco
from learned_opt.argument_checks import check_count
from learned_opt.base import LocalAlgorithm

FRAGMENTS = 2
"""Where none are named."""


def _quantized_diloco(
    protocol: EvalProtocol, bits: int = 4, scheme: str = "linear", feeds_back: bool = True
) -> Contender:
    return _of_bits("quantized_diloco", bits, scheme, feeds_back)(protocol)


def _quantized_diloco_2bit(protocol: EvalProtocol, feeds_back: bool = True) -> Contender:
    return _of_bits("quantized_diloco_2bit", 2, "statistical", feeds_back)(protocol)


def _of_bits(name: str, bits: int, scheme: str, feeds_back: bool) -> Callable[[EvalProtocol], Contender]:
    def make(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
        rates = {"learning_rate": h["server_lr"], "momentum": h["momentum"]}
        return quantized_diloco(workers, bits, scheme=scheme, feeds_back=feeds_back, **rates)

    return rival(name, make, DILOCO_GRID)


def _sparse_loco(protocol: EvalProtocol, k: int = 64, chunk_size: int = 4096, bits: int = 2) -> Contender:
    def make(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
        return sparse_loco(workers, h["server_lr"], k=k, chunk_size=chunk_size, bits=bits, decay=h["decay"])

    decays = GridAxis((0.9, 0.95, 0.975), decay=True)
    grid = {"local_lr": ADAM_LR, "server_lr": SERVER_LR, "decay": decays}
    return rival("sparse_loco", make, grid, lambda h: optax.adamw(h["local_lr"]))(protocol)


def _streaming_diloco(protocol: EvalProtocol, num_fragments: int | None = None) -> Contender:
    return _in_fragments("streaming_diloco", streaming_diloco, num_fragments)(protocol)


def _greedy_fragments(protocol: EvalProtocol, num_fragments: int | None = None) -> Contender:
    return _in_fragments("greedy_fragments", greedy_fragments, num_fragments)(protocol)


def _in_fragments(
    name: str, function: Callable[..., LocalAlgorithm], num_fragments: int | None
) -> Callable[[EvalProtocol], Contender]:
    if num_fragments is not None:
        check_count(num_fragments, "num_fragments")

    def make(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
        server = diloco(h["server_lr"], h["momentum"])
        if num_fragments is not None:
            return function(workers, num_fragments, server)
        return _where_there_are_tensors(FRAGMENTS, lambda number: function(workers, number, server))

    return rival(name, make, DILOCO_GRID)


def _where_there_are_tensors(num_fragments: int, make: Callable[[int], LocalAlgorithm]) -> LocalAlgorithm:
    """The algorithm with that many fragments, or as many as the model has tensors: every cell of a suite has a row."""

    def of(params):
        return make(min(num_fragments, len(jax.tree.leaves(params))))

    def bytes_received(params, num_workers):
        received = of(params).bytes_received
        assert received is not None
        return received(params, num_workers)

    def peak_bytes(params):
        peak = of(params).peak_bytes
        assert peak is not None
        return peak(params)

    return make(num_fragments)._replace(
        init=lambda params: of(params).init(params),
        round=lambda loss_fn, state, key, batches: of(state.shared.params).round(loss_fn, state, key, batches),
        params=lambda state: of(state.shared.params).params(state),
        bytes_sent=lambda params: of(params).bytes_sent(params),
        bytes_received=bytes_received,
        peak_bytes=peak_bytes,
    )


COMPRESSED: dict[str, Callable[..., Contender]] = {
    "quantized_diloco": _quantized_diloco,
    "quantized_diloco_2bit": _quantized_diloco_2bit,
    "sparse_loco": _sparse_loco,
    "streaming_diloco": _streaming_diloco,
    "greedy_fragments": _greedy_fragments,
}
"""Name -> (protocol, ...) -> contender."""
