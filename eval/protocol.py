"""What every contender is given: task, rounds, workers, seeds and tuning budget.

Tuning sees the inner-validation split only; the test split is read once, after all training.
"""

import dataclasses
from typing import Any

from eval.references import made_by
from eval.schedules import SCHEDULES
from learned_opt.names import hint

TUNING_BUDGETS = {"full": 27, "coarse": 9}
"""Settings of every tuned contender's first grid."""


@dataclasses.dataclass(frozen=True)
class EvalProtocol:
    """One evaluation; every contender computes the gradients of K H minibatches of B a round."""

    task: str
    """Name of a task family in tasks.suites."""
    num_rounds: int
    """Communication rounds of every run."""
    num_workers: int = 8
    """Workers, K."""
    num_local_steps: int = 4
    """Local steps between two rounds, H."""
    batch_size: int = 128
    """Examples per worker and local step, B."""
    num_seeds: int = 3
    """Final runs per contender; a seed fixes the initial parameters and all batches."""
    seed: int = 0
    """Root of all randomness."""
    tuning_seeds: int = 1
    """Runs per hyper-parameter setting while tuning; other seeds than the final ones."""
    max_extensions: int = 2
    """How often a grid may grow around a best setting that lies on its edge."""
    eval_every: int = 1
    """Rounds between two points of the training-loss curve; divides num_rounds."""
    num_curve_examples: int = 8192
    """Training examples the curve is measured on, evenly spaced; all of a smaller split."""
    tuning: str = "full"
    """"full": 27 settings per tuned contender before its grid grows; "coarse": 9, a third of the cost."""
    schedule: str = "constant"
    """Learning-rate schedule of every contender, learned ones included: constant, cosine, linear or wsd
    (eval/schedules.py). Data-parallel training: of the optimizer, over rounds. Local SGD: of the workers' optimizer,
    over the local steps of the whole run, or its rounds where an algorithm chooses their length; a server whose step is
    not in units of the pseudo-gradient follows it."""
    ema: float | None = None
    """Decay per round of an average of the global parameters that is evaluated in their place, for everyone alike; in
    (0, 1), None for none."""
    diagnostics: tuple[str, ...] = ()
    """What is recorded beside the losses: names, groups and references of eval/diagnostics."""

    def __post_init__(self) -> None:
        if not isinstance(self.task, str) or not self.task:
            raise ValueError(f"task={self.task!r}: name a task family, for example fmnist8_mlp32")
        if self.tuning not in TUNING_BUDGETS:
            raise ValueError(f"tuning={self.tuning!r}: use {' or '.join(TUNING_BUDGETS)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}: {hint(self.schedule, SCHEDULES)}")
        if self.ema is not None and not (isinstance(self.ema, int | float) and 0 < self.ema < 1):
            raise ValueError(f"ema={self.ema!r}: use a number between 0 and 1, or none")
        if not isinstance(self.diagnostics, tuple) or not all(isinstance(name, str) for name in self.diagnostics):
            raise ValueError(f"diagnostics={self.diagnostics!r}: use a tuple of names, see python -m eval diagnostics")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("task", "tuning", "schedule", "ema", "diagnostics"):
                continue
            least = 0 if field.name in ("seed", "max_extensions") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{field.name}={value!r}: use an integer of at least {least}")
        if self.seed >= 2**32:
            raise ValueError(f"seed={self.seed}: use 0 to 2^32 - 1")
        if self.num_rounds % self.eval_every:
            raise ValueError(f"eval_every={self.eval_every}: use a divisor of num_rounds={self.num_rounds}")


PROTOCOLS = {
    "demo": EvalProtocol(task="fmnist8_mlp32", num_rounds=300, batch_size=32),
    "fmnist8_k8_h4": EvalProtocol(task="fmnist8_mlp32", num_rounds=1000, batch_size=128),
}
"""Protocols by name: `demo` for the embedded demo, `fmnist8_k8_h4` for the preset
lagg_fmnist8_k8_h4."""


def make_protocol(reference: str) -> EvalProtocol:
    """The protocol of a name of PROTOCOLS, fields changed where the reference gives them, or what `module:function`
    returns.

    Raises:
      ValueError: nothing of that name, an unsuitable field, or a function that returns something else.
    """

    def changed(protocol: EvalProtocol):
        def make(**fields: Any) -> EvalProtocol:
            for field in fields:
                if field not in protocol.__dataclass_fields__:
                    raise ValueError(f"protocol: no field {field!r}; {hint(field, protocol.__dataclass_fields__)}")
            return dataclasses.replace(protocol, **fields)

        return make

    made = made_by(reference, {name: changed(protocol) for name, protocol in PROTOCOLS.items()}, "protocol")
    if not isinstance(made, EvalProtocol):
        raise ValueError(f"protocol: {reference!r} returned {type(made).__name__}: return an EvalProtocol")
    return made


def protocol_from_record(fields: dict[str, Any]) -> EvalProtocol:
    """The protocol that a file holds, files of earlier versions included."""
    if "worker_diagnostics" in fields:
        fields = {**fields, "diagnostics": ("worker_agreement",) if fields["worker_diagnostics"] else ()}
        del fields["worker_diagnostics"]
    return EvalProtocol(**{**fields, "diagnostics": tuple(fields.get("diagnostics", ()))})
