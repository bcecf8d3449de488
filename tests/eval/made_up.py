"""Results made up from curves, for tests of what reads them."""

import numpy as np

from eval.results import ContenderResult, Results
from tests.eval.toy import TOY

PROVENANCE = {
    "versions": {"jax": "0"},
    "device": "cpu",
    "num_devices": 1,
    "git_commit": "0" * 40,
    "git_dirty": False,
    "argv": ["eval"],
    "seconds": 1.0,
    "tuning_seconds": 0.5,
}


def contender(name, curve, test_loss=None, kind="baseline", **fields):
    """curve: [seeds, points]; the last point is the final training loss."""
    curve = np.asarray(curve, np.float32)
    test_loss = curve[:, -1] if test_loss is None else np.asarray(test_loss, np.float32)
    losses = {"train": curve[:, -1], "inner_valid": test_loss, "outer_valid": test_loss, "test": test_loss}
    final = {split: {"loss": loss, "relative_l2": loss / 2} for split, loss in losses.items()}
    details = {}
    learned = kind == "learned"
    if learned:
        card = {"num_local_steps": 4, "local_learning_rate": 0.5}
        details = {"checkpoint": "a.safetensors", "config": {"architecture": "lopt_a"}, "card": card}
    defaults = {
        "kind": kind,
        "details": details,
        "hparams": {} if learned else {"lr": 0.1},
        "tuning": {"num_runs": 0 if learned else 27, "extensions": 0, "interior": True, "trials": []},
        "bytes_per_round": 1000,
        "rounds": np.arange(1, curve.shape[1] + 1),
        "minibatch_loss": curve,
        "diagnostics": {},
        "test_rounds": np.array([1, curve.shape[1]]),
        "test_curves": {metric: np.stack([values, values], axis=1) for metric, values in final["test"].items()},
        "cost": {"compile_seconds": 1.0, "seconds_per_round": 0.01, "state_bytes": 60, "memory_bytes": 10**6},
    }
    return ContenderResult(name=name, train_loss=curve, final=final, **{**defaults, **fields})


TASK = {
    "name": "toy",
    "reference": "toy",
    "description": "Softmax regression",
    "num_params": 2410,
    "examples": {"train": 90, "inner_valid": 40, "outer_valid": 40, "test": 50},
    "leaves": {"image": "uint8 [2, 2, 1]"},
    "metrics": ["loss", "relative_l2"],
    "constant_guess_loss": float(np.log(3)),
}


def results(*contenders, protocol=TOY):
    return Results(protocol, PROVENANCE, contenders, TASK)
