"""SparseLoCo (Sarfi et al. 2025, arXiv 2508.15706): DiLoCo whose outer momentum is the error feedback of its top-k.

    e_k <- 0.95 e_k + (x - y_k);   send Q(TopK(e_k));   e_k <- e_k - sent;   x <- x - a mean_k(sent)

No momentum on the server: the residuals have it. With the defaults a message is 1/146 of a dense one in the limit of
large tensors. Without the DCT of its ancestor DeMo, as in the published 70B run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.algorithms.compression.top_k import top_k
from learned_opt.algorithms.compression.upload import error_feedback
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def sparse_loco(
    local_opt: optax.GradientTransformation,
    learning_rate: float | Array = 1.0,
    *,
    k: int = 64,
    chunk_size: int = 4096,
    bits: int = 2,
    decay: float | Array = 0.95,
) -> LocalAlgorithm:
    """SparseLoCo.

    Args:
      local_opt: of the workers; AdamW in the paper.
      learning_rate: a, the server's.
      k: elements sent of each chunk.
      chunk_size: elements of a chunk.
      bits: of a value, 2, 4, 8 or 32.
      decay: of the residual, a round.

    Raises:
      ValueError: k above the chunk, or bits that are not there.
    """
    upload = error_feedback(top_k(k, chunk_size, bits), decay)
    return local_sgd(local_opt, optax.sgd(learning_rate), upload.transform, bytes_sent=upload.bytes_sent)
