"""What a diagnostic is: one number that explains a run beside its loss.

    round      of the pseudo-gradients that the workers sent in a round: measured inside the training
    snapshot   of the parameters after a round: measured on snapshots, after the training

Both are one scalar a time, drawn as a curve. A third kind of input would be a third value of `needs`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Float, PyTree

from tasks.base import Batch, Task

Needs = Literal["round", "snapshot"]


class Snapshot(NamedTuple):
    """What a diagnostic of a snapshot is given.

    Attributes:
      task: of the run.
      params: after a round, as they are evaluated.
      initial_params: where the run began.
      batch: a fixed batch of training examples, leaves [B, ...].
      key: for start vectors and stochastic losses, the same for everyone.
      num_classes: C of a classification task, else None.
    """

    task: Task
    params: PyTree
    initial_params: PyTree
    batch: Batch
    key: Any
    num_classes: int | None


class Diagnostic(NamedTuple):
    """One diagnostic.

    Attributes:
      name: in tables and files.
      needs: what `measure` is given.
      measure: "round": leaves [K, ...] of K >= 2 workers -> scalar; "snapshot": a `Snapshot` -> scalar. nan where it is
        undefined. The first line of its docstring describes it.
    """

    name: str
    needs: Needs
    measure: Callable[[Any], Float[Array, ""]]
