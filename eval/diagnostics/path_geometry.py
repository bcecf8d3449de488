"""How straight the way to the end was: restricted secant inequality and error bound along the path.

    RSI = <g, w - w*> / |w - w*|^2        EB = |g| / |w - w*|        cos(g, w - w*) = RSI / EB
    implied learning rate = RSI / EB^2

g is the gradient at w and w* the final iterate of the same run (Guille-Escuret, Naganuma, Fatras and Mitliagkas 2023,
"No Wrong Turns", arXiv 2306.11922). Where RSI is positive the gradient points away from where the run will end; the
implied rate is that of the gradient step that ends nearest to w*. Undefined (nan) at the final iterate itself. A
deviation: g is the gradient on the fixed batch of the snapshot, so that everyone is measured on the same examples.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot


def restricted_secant(snapshot: Snapshot) -> Float[Array, ""]:
    """RSI: gradient along the way from the final iterate; positive: no wrong turn (Guille-Escuret 2023, 2306.11922)."""
    inner, _, distance = _inner_products(snapshot)
    return inner / distance


def error_bound(snapshot: Snapshot) -> Float[Array, ""]:
    """EB: norm of the gradient over the distance to the final iterate (Guille-Escuret 2023, 2306.11922)."""
    _, norm, distance = _inner_products(snapshot)
    return jnp.sqrt(norm / distance)


def implied_learning_rate(snapshot: Snapshot) -> Float[Array, ""]:
    """RSI / EB^2: rate of the gradient step nearest to the final iterate (Guille-Escuret 2023, 2306.11922)."""
    inner, norm, _ = _inner_products(snapshot)
    return inner / norm


def _inner_products(snapshot: Snapshot) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """<g, w - w*>, |g|^2 and |w - w*|^2, the last two nan where w is w*."""
    gradient = jax.grad(snapshot.task.loss)(snapshot.params, snapshot.key, snapshot.batch)
    products = []
    leaves = (jax.tree.leaves(tree) for tree in (gradient, snapshot.params, snapshot.final_params))
    for g, x, end in zip(*leaves, strict=True):
        g, way = g.astype(jnp.float32), x.astype(jnp.float32) - end.astype(jnp.float32)
        products.append(jnp.stack([jnp.sum(g * way), jnp.sum(g * g), jnp.sum(way * way)]))
    inner, norm, distance = jnp.sum(jnp.stack(products), axis=0)
    there = distance == 0
    return inner, jnp.where(there, jnp.nan, norm), jnp.where(there, jnp.nan, distance)


PATH_GEOMETRY = (
    Diagnostic("restricted_secant", "snapshot", restricted_secant),
    Diagnostic("error_bound", "snapshot", error_bound),
    Diagnostic("implied_learning_rate", "snapshot", implied_learning_rate),
)
