"""How near a run is to the edge of stability: curvature in units of its own learning rate.

    eta lambda_max(H)   gradient descent on a quadratic diverges above 2 (Cohen et al. 2021, arXiv 2103.00065)
    eta tr H            the same bound for SGD whose noise has the shape of H (Wu and Su 2023, arXiv 2305.17490)

eta is the rate of plain gradient steps: the workers' in local SGD, whatever the server then does, and the optimizer's
in data-parallel training. For steps that are no multiple of the gradient (Adam, Muon, momentum on a worker, a learned
optimizer that reads gradients) 2 / eta bounds nothing, and both are nan. A server's own step is not in it: a run may be
stable on the workers and unstable between the rounds.
"""

from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.hessian_trace import hessian_trace
from eval.diagnostics.sharpness import sharpness

BOUND = 2.0


def sharpness_times_rate(snapshot: Snapshot) -> Float[Array, ""]:
    """Sharpness times the learning rate of plain gradient steps: unstable above 2 (Cohen 2021, 2103.00065)."""
    return snapshot.learning_rate * sharpness(snapshot)


def trace_times_rate(snapshot: Snapshot) -> Float[Array, ""]:
    """Trace of the Hessian times the rate of plain gradient steps: SGD is stable below 2 (Wu 2023, 2305.17490)."""
    return snapshot.learning_rate * hessian_trace(snapshot)


STABILITY = (
    Diagnostic("sharpness_times_rate", "snapshot", sharpness_times_rate),
    Diagnostic("trace_times_rate", "snapshot", trace_times_rate),
)
