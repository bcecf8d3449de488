"""DiLoCo with pseudo-gradients of 8, 4 or 2 bits, with and without error feedback.

    m <- b m + mean_k Q(Delta_k);   x <- x - a (b m + mean_k Q(Delta_k))

4 bits are lossless in DiLoCo's and MuLoCo's papers (Douillard et al. 2025, arXiv 2501.18512; Therien et al. 2025, arXiv
2505.23725), 2 bits need statistical bins or error feedback. Each worker's message is decoded in full precision before
the mean; a ring of reductions would quantize sums on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import optax

from learned_opt.algorithms.compression.quantize import quantize
from learned_opt.algorithms.compression.upload import error_feedback
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def quantized_diloco(
    local_opt: optax.GradientTransformation,
    bits: int = 4,
    *,
    scheme: str = "linear",
    feeds_back: bool = True,
    learning_rate: float | Array = 0.7,
    momentum: float | Array = 0.9,
) -> LocalAlgorithm:
    """DiLoCo over a quantized channel.

    Args:
      local_opt: of the workers.
      bits: 2, 4, 8, or 32 for none.
      scheme: "linear" or "statistical", see `quantize`.
      feeds_back: whether a worker keeps what the quantization left out and adds it in the next round.
      learning_rate: a, the server's.
      momentum: b.

    Raises:
      ValueError: bits or scheme that are not there.
    """
    upload = quantize(bits, scheme)
    if feeds_back:
        upload = error_feedback(upload)
    return local_sgd(local_opt, diloco(learning_rate, momentum), upload.transform, bytes_sent=upload.bytes_sent)
