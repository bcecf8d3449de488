"""Where claims are measured: small embedded tasks of a minute or less, with who takes part.

    alike        equal data, H = 4                     longer    the same gradients in half as many rounds, H = 8
    different    Dirichlet(0.1) labels, H = 32         ring      16 workers, Dirichlet(0.1) labels, H = 1
    shorter      a cosine over 100 rounds, H = 2        growing   the same local steps in fewer rounds, H up to 8
    few, many    a global batch of 128 on 2 and on 16 workers, H = 8, two hidden layers
    private      64 examples on each worker, whole gradients, a budget of privacy

Dirichlet labels are balanced, see eval/different_data.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from eval.different_data import dirichlet_workers
from eval.protocol import EvalProtocol
from eval.task_families import make_family
from tasks.base import TaskFamily

ALPHA = 0.1
MLP = "fmnist8_mlp32"
DEEPER = "fashion_mnist:mlp32x32,image_size=8,grey=True"
OWN = "eval.claims.contenders:"


class Cell(NamedTuple):
    """One comparison.

    Attributes:
      name: of its folder.
      protocol: what everyone is given.
      contenders: references, see `eval.compare.participants.named_contender`.
      change: (family of the protocol's task, K) -> family.
    """

    name: str
    protocol: EvalProtocol
    contenders: tuple[str, ...]
    change: Callable[[TaskFamily, int], TaskFamily] = lambda family, num_workers: family

    def family(self) -> TaskFamily:
        """What is trained."""
        return self.change(make_family(self.protocol.task), self.protocol.num_workers)


def _different(family: TaskFamily, num_workers: int) -> TaskFamily:
    return dirichlet_workers(family, ALPHA, num_workers, balanced=True)


def _with_few_examples(family: TaskFamily, num_workers: int) -> TaskFamily:
    """Every round has the same batches: a worker has as many examples as a round takes, and gradients are whole."""

    def task(config: Any, data: Any) -> Any:
        inner = family.task(config, data)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Any:
            return inner.sample_batch(jax.random.key(0) if split == "train" else key, split, batch_shape)

        return inner._replace(sample_batch=sample_batch)

    return family._replace(task=task)


def _protocol(**changes: Any) -> EvalProtocol:
    fields = {"task": MLP, "num_rounds": 100, "batch_size": 16, "num_seeds": 5, "num_curve_examples": 4096}
    return EvalProtocol(**{**fields, "eval_every": 2, "tuning": "coarse", **changes})


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell(
            "alike",
            _protocol(),
            (
                *("sgd", "local_sgd", "slowmo", "diloco", "diloco_adam", "diloco_adamw", "post_local_sgd", "palsgd"),
                *("quantized_diloco", "quantized_diloco_2bit", "sparse_loco", "streaming_diloco", "greedy_fragments"),
                *("noloco", "synchronous", "snoo", "lookahead", "gpa"),
                *("local_sgd_without_late_workers", "coded_data_parallel"),
                "linear_2bit=quantized_diloco,bits=2",
                "linear_2bit_without_feedback=quantized_diloco,bits=2,feeds_back=False",
                f"{OWN}synchronous_sgd",
                f"{OWN}local_adamw",
            ),
        ),
        Cell("longer", _protocol(num_local_steps=8, num_rounds=50), ("local_sgd", "diloco", "norm_test")),
        Cell(
            "different",
            _protocol(num_local_steps=32, batch_size=32, num_rounds=50, eval_every=1),
            ("local_sgd", "fedavgm", "fedadam", "fedyogi", "fedprox", "scaffold", "feddyn", "fedspeed"),
            _different,
        ),
        Cell(
            "ring",
            _protocol(num_workers=16, num_local_steps=1, num_rounds=300, eval_every=6),
            (
                *("dpsgd", "qg_dsgdm", "qg_adam", "consensus_control"),
                f"{OWN}dpsgd_adam",
                f"{OWN}dpsgd_without_momentum",
                f"one_peer_exponential={OWN}dpsgd_without_momentum,topology=one_peer_exponential",
            ),
            _different,
        ),
        *(
            Cell(
                name,
                _protocol(task=DEEPER, num_workers=k, batch_size=128 // k, num_local_steps=8, num_rounds=60),
                ("diloco_adamw", "muloco"),
            )
            for name, k in (("few", 2), ("many", 16))
        ),
        Cell("shorter", _protocol(num_local_steps=2, schedule="cosine"), ("local_sgd",)),
        Cell("growing", _protocol(num_local_steps=8), (f"{OWN}decaying_qsr",)),
        Cell(
            "private",
            _protocol(num_local_steps=1, batch_size=64),
            (f"dp_sgd={OWN}private", f"diff2={OWN}private,restart_every=20"),
            _with_few_examples,
        ),
    )
}
"""By name."""
