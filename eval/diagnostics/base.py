"""What a diagnostic is: one number that explains a run beside its loss.

    round      of the pseudo-gradients that the workers sent in a round: measured inside the training
    snapshot   of the parameters after a round: measured on snapshots, in a second pass after the training

Both are one scalar a time, drawn as a curve. A third kind of input would be a third value of `needs`. What a diagnostic
asks of a task beside its loss, classes or a last layer, is its `requires`; it is looked up before any training.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Float, PyTree

from tasks.base import Batch, Task, TaskFamily

Needs = Literal["round", "snapshot"]


class Snapshot(NamedTuple):
    """What a diagnostic of a snapshot is given.

    Attributes:
      task: of the run.
      params: after a round, as they are evaluated.
      initial_params: where the run began.
      previous_params: one point of the curve earlier, `eval_every` rounds; at the first point the initial ones.
      final_params: where the run ended.
      batch: a fixed batch of training examples, leaves [B, ...].
      key: for start vectors and stochastic losses, the same for everyone.
      num_classes: C of a classification task, else None.
      learning_rate: of the gradient steps in this round, schedule included; nan for steps of another kind, see
        `eval.diagnostics.sgd_rate`.
    """

    task: Task
    params: PyTree
    initial_params: PyTree
    previous_params: PyTree
    final_params: PyTree
    batch: Batch
    key: Any
    num_classes: int | None
    learning_rate: Float[Array, ""]


class Requirement(NamedTuple):
    """What a diagnostic asks of a task beside its loss.

    Attributes:
      words: in lists.
      checks: family -> what it lacks, in words, None where it lacks nothing; the later may rely on the earlier ones.
      families: who has it, in words.
    """

    words: str
    checks: tuple[Callable[[TaskFamily], str | None], ...]
    families: str


class Diagnostic(NamedTuple):
    """One diagnostic.

    Attributes:
      name: in tables and files.
      needs: what `measure` is given.
      measure: "round": leaves [K, ...] of K >= 2 workers -> scalar; "snapshot": a `Snapshot` -> scalar. nan where it is
        undefined. The first line of its docstring describes it and names the paper.
      requires: of the task; None: nothing.
    """

    name: str
    needs: Needs
    measure: Callable[[Any], Float[Array, ""]]
    requires: Requirement | None = None
