"""Recorded updates of published implementations, read from tests/data/reference_updates (see its README)."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "data" / "reference_updates"
NUM_TENSORS = 4
NUM_STEPS = 100
KINDS = {
    "celo_adam_released": "celo_adam",
    "celo_mixed": "celo",
    "celo_released": "celo",
    "hyper_v2_small": "hyper_v2",
    "mup_hyper_v2_small": "mup_hyper_v2",
}
"""Where the file is not called as its kind."""


class Case(NamedTuple):
    """One course of a recorded run: `edge` or not."""

    file: str
    run: str
    edge: bool

    @property
    def kind(self) -> str:
        return KINDS.get(self.file, self.file)

    def __str__(self) -> str:
        return f"{self.file}-{self.run}{'-edge' if self.edge else ''}"


@functools.cache
def load(file: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{file}.npz") as arrays:
        return dict(arrays)


def cases() -> list[Case]:
    """All, in the order of files and runs."""
    return [
        Case(path.stem, name.split("/")[0], "/edge/" in name)
        for path in sorted(FOLDER.glob("*.npz"))
        for name in load(path.stem)
        if name.endswith("/params/step1/0")
    ]


def theta_of(case: Case) -> dict[str, np.ndarray]:
    """By published leaf name."""
    arrays = load(case.file)
    if "meta/theta_file" in arrays:
        arrays = load(str(arrays["meta/theta_file"]).removesuffix(".npz"))
    own = f"{case.run}/theta/"
    prefix = own if any(name.startswith(own) for name in arrays) else "theta/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def arguments_of(case: Case) -> dict[str, Any]:
    """Of the published constructor; for muLO with the multipliers that its model carried."""
    arrays = load(case.file)
    arguments = json.loads(str(arrays[f"{case.run}/config"]))
    if "multipliers" in arrays:
        arguments["multipliers"] = arrays["multipliers"].tolist()
    return arguments


class Course(NamedTuple):
    """Inputs, stacked over updates, and the parameters after each of them."""

    params: list[np.ndarray]
    gradients: list[np.ndarray]
    losses: np.ndarray
    is_valid: np.ndarray
    expected: list[np.ndarray]


def course_of(case: Case) -> Course:
    arrays, inputs = load(case.file), load("inputs")
    where = "edge/" if case.edge else ""
    losses = inputs[f"{where}losses"]
    steps = range(len(losses))

    def stacked(source, path, first):
        return [np.stack([source[f"{path}/step{t + first}/{i}"] for t in steps]) for i in range(NUM_TENSORS)]

    return Course(
        params=[inputs[f"{where}params0/{i}"] for i in range(NUM_TENSORS)],
        gradients=stacked(inputs, f"{where}grads", 0),
        losses=losses,
        is_valid=arrays.get(f"{case.run}/is_valid", np.zeros(len(losses), bool)),
        expected=stacked(arrays, f"{case.run}/{where}params", 1),
    )


def assert_follows(case: Case, course: Course, found: list[np.ndarray]) -> None:
    """Within the spread of the published implementation itself: between compiled and not, and under changes of one
    unit in the last place of all inputs; a mistake is 10 to 10,000 times larger."""
    move = max(np.abs(e - p).max() for e, p in zip(course.expected, course.params, strict=True))
    # NN-Adam takes logarithms of 1 - beta, which cancel.
    relative = 1e-4 if case.kind == "nn_adam" else 2e-5
    for i, (have, want) in enumerate(zip(found, course.expected, strict=True)):
        np.testing.assert_allclose(have, want[: len(have)], rtol=0, atol=3e-7 + relative * move, err_msg=f"tensor {i}")
    if case.edge and case.kind in ("hyper_v2", "mup_hyper_v2", "celo"):
        # It begins at zero, where the step is in units of sqrt(1e-9): on its own, or that number is not tested.
        np.testing.assert_allclose(found[1], course.expected[1][: len(found[1])], rtol=1e-3)
