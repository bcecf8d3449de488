"""Settings of one meta-training run.

No JAX here: `python -m meta_train --help` and `list` answer without importing it.
"""

import dataclasses
import re
from typing import Any

from meta_train.component import Component, overrides

FREE_FIELDS = (
    "run_dir",
    "reuse_run_dir",
    "checkpoint_every",
    "keep_checkpoints",
    "export_every",
    "log",
    "validate_every",
    "validation",
    "eval_protocol",
)
"""Fields that change nothing about the optimizer that comes out."""
MIXTURES = ("components", "validation")
"""Fields that hold components."""


@dataclasses.dataclass(frozen=True)
class MetaTrainConfig:
    """One meta-training run. Lengths are communication rounds; `meta_*` fields are of the meta level.

    What is named (optimizer, task, local optimizer, estimator, protocol) is a name of a table, module:function or
    path/to/file.py:function, each with arguments: NAME[,field=value]...
    """

    preset: str = "custom"
    """Preset these settings started from; recorded only."""
    run_dir: str = "runs/custom"
    """Run folder to create."""
    reuse_run_dir: bool = False
    """Resume (or, when finished, only evaluate) a run of the same settings found in run_dir."""
    seed: int = 0
    """Seed of every random draw, 0 to 2^32 - 1."""

    task: str = "fmnist8_mlp32"
    """Task family to meta-train on: a name in tasks.suites, DATASET:NETWORK, or a function that returns one."""
    num_workers: int = 8
    """Workers per task, K."""
    num_local_steps: int = 4
    """Local SGD steps between two rounds, H."""
    batch_size: int = 128
    """Examples per worker and local step, B."""
    local_optimizer: str = "sgd,learning_rate=0.5"
    """What the workers run: a name in learned_opt.optimizers, or a function that returns an optax transform."""

    components: tuple[Component, ...] = ()
    """Mixture to meta-train on, each TASK[,FIELD=VALUE]...; a field left out is that of the run; none: its task."""
    components_per_step: int = 0
    """Components that a meta-step draws; 0 takes all."""

    optimizer: str = "lagg_a,nominal=momentum"
    """Learned optimizer: a name in learned_opt.architectures, or a function that returns a LearnedOptimizer; one that
    takes num_workers is given K."""
    expert: str | None = None
    """Hand-made optimizer that takes the steps at first and is imitated, e.g. adam,learning_rate=0.003 on one machine
    or diloco for workers; None for none."""
    expert_whole_steps: int = 0
    """Meta-steps for which it takes them alone."""
    expert_last_step: int = 0
    """Meta-step at which its share, which falls linearly, has come to 0."""
    initial_theta: str | None = None
    """Exported optimizer, or name of a pretrained one, whose theta the run starts from; None draws it."""

    meta_steps: int = 1000
    """Meta-steps: updates of theta."""
    num_tasks: int = 8
    """Tasks per meta-step, each with antithetic pairs of particles."""
    estimator: str = "pes"
    """Estimator of the meta-gradient: a name in meta_train.estimators, or a function that returns an Estimator."""
    sigma: float = 0.03
    """Standard deviation of the perturbations of theta."""
    pairs_per_task: int = 1
    """Antithetic pairs that share a task."""
    truncation_length: int = 50
    """Rounds per meta-step."""
    min_unroll_length: int = 100
    """Shortest episode in rounds, a multiple of truncation_length."""
    max_unroll_length: int = 1000
    """Longest episode in rounds, a multiple of truncation_length."""
    resume_probability: float = 0.0
    """Probability with which an episode goes on from a state that its pair has stored where training got worse, for as
    many rounds as the schedule says; 0 for never, ELO has 0.8."""
    resume_slots: int = 1
    """States that each pair stores for that."""
    meta_loss_split: str = "train"
    """Meta-loss: train (mean of the local minibatch losses) or outer_valid (held-out examples)."""
    objective: str = "mean"
    """What of the truncation's losses counts: mean, final (the last round's), or linear (weights rising from 0)."""

    worker_devices: int = 1
    """Devices that the workers of each particle are spread over."""
    resident_bytes: int = 0
    """Device memory for the training data, of which a window that moves on is resident; 0 holds all of it."""
    swap_every: int = 20
    """Meta-steps after which that window moves on."""

    meta_optimizer: str = "clipped_adamw"
    """What moves theta: clipped_adamw, or normalized_momentum (BO-REP's step, whose length is the learning rate)."""
    meta_learning_rate: float = 3e-3
    """Peak learning rate of theta."""
    final_meta_learning_rate: float = 3e-4
    """Learning rate at the end of the cosine decay, which is the last of meta_steps."""
    warmup_steps: int = 50
    """Meta-steps of linear warm-up."""
    train_only: str = ""
    """Leaves of theta that are trained, by the beginnings of their names separated by commas, e.g. controller; the
    others stay as they were at the start, to the bit. All where it is empty."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of theta, times the learning rate."""
    max_gradient_norm: float = 1.0
    """Ceiling of the meta-gradient's global norm; larger ones are scaled down to it by clipped_adamw."""
    theta_average_decay: float = 0.98
    """Decay per meta-step of the average of theta that is exported; 0 exports the last theta."""
    max_consecutive_skips: int = 20
    """Meta-steps in a row with a non-finite meta-gradient after which the run stops."""

    checkpoint_every: int = 50
    """Meta-steps between checkpoints."""
    keep_checkpoints: int = 3
    """Newest checkpoints that are kept."""
    export_every: int = 0
    """Meta-steps between optimizers kept in the folder `exports`; 0 keeps the newest only."""
    log: str = ""
    """Where metrics go beside metrics.jsonl: tensorboard, wandb, or both separated by a comma."""
    validate_every: int = 0
    """Meta-steps between two trainings of validation tasks with the averaged theta, the best of which is kept as
    best.safetensors; 0 for none."""
    validation: tuple[Component, ...] = ()
    """Families to validate on, each TASK[,FIELD=VALUE]...; none: small ones of META_VALID."""
    eval_protocol: str | None = None
    """Protocol to run on the result: a name in eval.protocol, or a function that returns an EvalProtocol; None skips
    the evaluation."""


def to_json(config: MetaTrainConfig) -> dict[str, Any]:
    """JSON values of a configuration, as `meta_train.stored_config.from_json` reads them."""
    values = dataclasses.asdict(config)
    return values | {name: list(values[name]) for name in MIXTURES}


def component_runs(
    config: MetaTrainConfig, components: tuple[Component, ...] | None = None
) -> dict[str, MetaTrainConfig]:
    """Each component as the configuration of a run of its own, by name.

    Args:
      config: what a component leaves out is taken from it.
      components: None: those of the configuration; without any, its task.

    Raises:
      ValueError: two components of one name.
    """
    if components is None:
        components = config.components or (Component(config.task),)
    runs = [dataclasses.replace(config, components=(), **overrides(component)) for component in components]
    tasks = [run.task for run in runs]
    named = {}
    for component, run in zip(components, runs, strict=True):
        plain = task_name(run.task)
        if tasks.count(run.task) > 1:
            plain += f"_k{run.num_workers}_h{run.num_local_steps}"
        name = component.name or plain
        if name in named:
            raise ValueError(f"components: two are called {name!r}; add name=... to one of them")
        named[name] = run
    return named


def task_name(reference: str) -> str:
    """What a task is called in metrics and checkpoints: its reference without folders, arguments and odd characters."""
    target = reference.partition(",")[0].strip().rpartition("/")[2].replace(".py:", ":")
    return re.sub(r"[^A-Za-z0-9_.\-]+", "_", target)
