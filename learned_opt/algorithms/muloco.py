"""MuLoCo (Therien et al. 2025, arXiv 2505.23725): DiLoCo with Muon on the workers.

    hidden matrices:  y_k <- y_k - eta (orthogonalized momentum + wd y_k)       Muon (Jordan et al. 2024)
    the rest:         AdamW
    u <- b u + a mean_k(x - y_k);   x <- x - b u - a mean_k(x - y_k)

Muon is optax's, five Newton-Schulz iterations and steps scaled by sqrt(max(1, outputs / inputs)); the AdamW inside it
looks ahead as Nesterov does (Dozat 2016). Momenta stay on their worker. The first and the last layer belong to AdamW,
which a name tells better than a shape: by default those with "embed" in a part of their path or "head" at the end of
one, and every tensor of rank below 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import optax

from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.muloco_momentum import muloco_momentum
from learned_opt.base import LocalAlgorithm, Params

if TYPE_CHECKING:
    from jaxtyping import Array

NOT_HIDDEN = re.compile(r"embed|head(_?\d+)?$")
"""What a part of the path of a matrix has in it that is no hidden one; not the heads of an attention layer."""


def is_hidden_matrix(path: tuple[Any, ...], leaf: Any) -> bool:
    """Whether Muon takes a tensor: of rank 2 or more, not empty, neither an embedding nor a head by its name."""
    parts = jax.tree_util.keystr(path, simple=True, separator="/").lower().split("/")
    return leaf.ndim >= 2 and leaf.size > 0 and not any(NOT_HIDDEN.search(part) for part in parts)


def muon_and_adamw(
    learning_rate: Any = 0.02,
    *,
    adam_learning_rate: Any = None,
    beta: float | Array = 0.95,
    b1: float | Array = 0.9,
    b2: float | Array = 0.95,
    weight_decay: float | Array = 5e-3,
    is_hidden: Callable[[tuple[Any, ...], Any], bool] = is_hidden_matrix,
) -> optax.GradientTransformation:
    """Muon on hidden matrices, AdamW on the rest.

    Args:
      learning_rate: Muon's, a number or an optax schedule over local steps; 0.016 to 0.063 in the paper.
      adam_learning_rate: AdamW's, likewise; None: Muon's.
      beta: Muon's decay of the momentum.
      b1: AdamW's decay of the mean.
      b2: AdamW's decay of the second moment.
      weight_decay: times the learning rate, of all parameters; 5e-4 to 5e-3 in the paper.
      is_hidden: (path, tensor) -> whether Muon takes it. The last axis of a tensor holds its outputs, all others
        together its inputs.
    """

    def dimension_numbers(params: Params) -> Any:
        def numbers(path, leaf):
            if not is_hidden(path, leaf):
                return None
            return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

        return jax.tree_util.tree_map_with_path(numbers, params)

    return optax.contrib.muon(
        learning_rate,
        beta=beta,
        weight_decay=weight_decay,
        adam_b1=b1,
        adam_b2=b2,
        adam_weight_decay=weight_decay,
        adam_learning_rate=adam_learning_rate,
        muon_weight_dimension_numbers=dimension_numbers,
    )


def muloco(
    learning_rate: Any = 0.02,
    *,
    adam_learning_rate: Any = None,
    weight_decay: float | Array = 5e-3,
    server_learning_rate: float | Array = 0.7,
    server_momentum: float | Array = 0.6,
    is_hidden: Callable[[tuple[Any, ...], Any], bool] = is_hidden_matrix,
) -> LocalAlgorithm:
    """MuLoCo; arguments as for `muon_and_adamw` and `muloco_momentum`."""
    local_opt = muon_and_adamw(
        learning_rate, adam_learning_rate=adam_learning_rate, weight_decay=weight_decay, is_hidden=is_hidden
    )
    return local_sgd(local_opt, muloco_momentum(server_learning_rate, server_momentum))
