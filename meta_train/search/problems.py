"""What candidates are judged on: families, workers and lengths as literal tables, or as text."""

from typing import NamedTuple

from meta_train.component import Component, parse_component


class Problem(NamedTuple):
    """Trainings of one family.

    Attributes:
      family: its name, or another reference of a task.
      num_workers, num_local_steps, batch_size, num_rounds: of a training.
      dirichlet_alpha: how alike the workers' labels are (`tasks.augmentation.with_dirichlet_workers`); None: alike.
    """

    family: str
    num_workers: int
    num_local_steps: int
    batch_size: int
    num_rounds: int
    dirichlet_alpha: float | None = None

    @property
    def name(self) -> str:
        """E.g. "fmnist8_mlp32 K=8 H=4 B=16"."""
        data = "" if self.dirichlet_alpha is None else f" alpha={self.dirichlet_alpha:g}"
        return f"{self.family} K={self.num_workers} H={self.num_local_steps} B={self.batch_size}{data}"

    @property
    def full_name(self) -> str:
        """The name with the number of rounds."""
        return f"{self.name} T={self.num_rounds}"


DEFAULTS = {"num_workers": 8, "num_local_steps": 4, "batch_size": 16, "max_unroll_length": 200}
"""Fields of a component that a problem has, beside the task, and what they are where they are not given."""


def problem_of(text: str) -> Problem:
    """The problem `TASK[,num_workers=8][,num_local_steps=4][,batch_size=16][,max_unroll_length=200]`.

    Raises:
      ValueError: as `parse_component`, or another field of a component.
    """
    component = parse_component(text)
    bare = Component(component.task)
    given = {name: value for name, value in vars(component).items() if value != getattr(bare, name)}
    for name in given:
        if name not in DEFAULTS:
            raise ValueError(f"problem {text!r}: {name} has no meaning in a search; use {', '.join(DEFAULTS)}")
    workers, steps, batch, rounds = (DEFAULTS | given).values()
    if min(workers, steps, batch) < 1 or rounds < 4:
        raise ValueError(f"problem {text!r}: use at least 1 worker, local step and example, and 4 rounds")
    return Problem(component.task, workers, steps, batch, rounds)


SAMPLED_SIZES = (
    (8, 4, 16, 120),
    (1, 1, 32, 400),
    (4, 16, 8, 80),
    (16, 2, 8, 200),
    (1, 16, 16, 100),
    (8, 8, 8, 100),
    (2, 4, 16, 240),
    (4, 1, 16, 480),
)
"""Workers, local steps, examples and rounds of the problems that are drawn."""


def sampled_problem(seed: int) -> Problem:
    """The problem of a seed, see `tasks.families.drawn.network.sampled_network`, with one of the sizes."""
    return Problem(f"sampled_network,seed={seed}", *SAMPLED_SIZES[(3 * seed + 5 * (seed // 8)) % len(SAMPLED_SIZES)])


DRAWN = ("sampled_equation", "sampled_sequence", "sampled_objective", "sampled_interpolation")
"""Families of problems of which everything is drawn, beside `sampled_network`."""


def drawn_problems(seeds: range) -> list[Problem]:
    """Problems of `DRAWN`, every second one of the size that comparisons have most often."""
    sizes = [(8, 4, 16, 100) if seed % 2 == 0 else SAMPLED_SIZES[3 * seed % len(SAMPLED_SIZES)] for seed in seeds]
    return [
        Problem(f"{family},seed={seed}", *size) for seed, size in zip(seeds, sizes, strict=True) for family in DRAWN
    ]


META_TRAIN_PROBLEMS = (
    Problem("fmnist8_mlp32", 8, 4, 16, 400),
    Problem("fmnist8_mlp32", 1, 1, 32, 400),
    Problem("fmnist8_mlp64x64", 1, 16, 8, 100),
    Problem("fmnist8_mlp64x64", 4, 16, 8, 80),
    Problem("fmnist8_mlp_varied", 16, 2, 8, 160),
    Problem("fmnist8_mlp_varied", 2, 8, 16, 120),
    Problem("fmnist8_mlp32_reparam", 4, 8, 8, 120),
    Problem("fmnist8_mlp32_noise", 32, 1, 8, 160),
    Problem("fmnist8_cnn", 8, 4, 16, 100),
    Problem("fmnist8_cnn", 32, 2, 8, 80),
    Problem("markov_transformer", 8, 4, 4, 120),
    Problem("teacher_student_wide", 8, 2, 8, 120),
    Problem("teacher_student", 16, 4, 8, 120),
    Problem("teacher_student", 8, 4, 16, 200),
    Problem("fmnist16_mlp64", 8, 2, 8, 120),
    Problem("fmnist16_mlp64", 1, 4, 16, 160),
    Problem("quadratics32", 8, 4, 4, 150),
    Problem("quadratics32_exact", 8, 4, 16, 150),
    Problem("matrix_quadratics", 8, 4, 8, 160),
    Problem("matrix_quadratics", 1, 8, 8, 160),
    Problem("coordinate_regression", 8, 4, 16, 120),
    Problem("coordinate_regression", 2, 16, 16, 80),
    Problem("fmnist8_mlp32", 8, 4, 16, 120, 0.1),
    Problem("fmnist8_mlp64x64", 4, 8, 8, 100, 0.5),
    Problem("fmnist8_mlp64x64", 8, 4, 16, 120, 0.2),
    Problem("fmnist8_cnn", 8, 4, 8, 80, 0.2),
    Problem("fmnist8_mlp32_few", 8, 4, 16, 100),
    Problem("fmnist8_mlp32_few", 2, 4, 8, 160),
    Problem("fmnist8_linear", 8, 4, 16, 100),
    Problem("fmnist8_contrastive", 8, 4, 16, 100),
    Problem("fmnist8_contrastive", 2, 8, 16, 100),
    Problem("tensor_factors", 8, 4, 16, 120),
    Problem("tensor_factors", 1, 8, 16, 120),
    Problem("waves_rnn", 8, 4, 16, 100),
    Problem("fmnist8_mlp32", 4, 2, 16, 1000),
    Problem("fmnist8_mlp32_few", 4, 2, 8, 600),
    Problem("teacher_student", 2, 2, 8, 800),
    Problem("fmnist8_mlp32", 2, 64, 8, 40),
    Problem("fmnist8_mlp32_few", 4, 32, 8, 48),
    Problem("teacher_student", 8, 32, 8, 48),
    *map(sampled_problem, range(32)),
    *drawn_problems(range(14)),
)
"""Of META_TRAIN, with few and many workers, local steps and rounds."""

META_VALID_PROBLEMS = (
    Problem("fmnist8_mlp128", 8, 4, 16, 200),
    Problem("fmnist8_mlp128", 1, 1, 32, 400),
    Problem("fmnist8_mlp128", 8, 16, 8, 100),
    Problem("fmnist8_autoencoder", 8, 4, 16, 200),
    Problem("fmnist8_autoencoder", 32, 2, 8, 200),
    Problem("fmnist24_mlp128", 8, 4, 8, 120),
    Problem("matrix_quadratics_exact", 8, 4, 8, 160),
    Problem("coordinate_regression_wide", 8, 4, 16, 160),
    Problem("fmnist8_mlp128", 8, 4, 16, 160, 0.2),
    Problem("fmnist8_mlp64x64_few", 8, 4, 16, 100),
    Problem("fmnist8_contrastive_wide", 8, 4, 16, 100),
    Problem("tensor_factors_wide", 8, 4, 16, 120),
    Problem("waves_rnn_wide", 8, 4, 16, 100),
    *map(sampled_problem, range(100, 116)),
    *drawn_problems(range(100, 105)),
)
"""Of META_VALID: what a finished search is chosen by."""
