"""The cost tables: that every architecture has a row, that a row's figures are those of its program, and mistakes."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import learned_opt
from eval.speed import costs, diagnostics, families, update
from eval.speed.trees import TREES
from learned_opt.architectures import ARCHITECTURES


def test_every_architecture_has_a_row():
    assert {make().config["architecture"] for make in costs.OPTIMIZERS.values()} == set(ARCHITECTURES)


def test_trees_are_as_large_as_they_say():
    sizes = {name: (len(make()), sum(map(math.prod, make().values()))) for name, make in TREES.items()}
    assert sizes == {"mlp": (4, 101_770), "deep_mlp": (8, 923_466), "transformer": (74, 10_088_320)}
    assert len(set(TREES["deep_mlp"]().values())) == 8


def test_figures_of_an_update(monkeypatch):
    monkeypatch.setitem(TREES, "tiny", lambda: {"w": (6, 4), "b": (4,)})
    monkeypatch.setattr(update, "REPEATS", 1)
    # Adam's bias correction raises a float to the power of an integer.
    with jax.numpy_dtype_promotion("standard"):
        found = update.benchmark_update("tiny", learned_opt.learnable_sgdm())
    assert (found["num_tensors"], found["num_params"]) == (2, 28)
    # A float of momentum per parameter, and a count.
    assert 4 <= found["state_bytes_per_param"] < 5
    assert (
        min(found[name] for name in ("cpu_ratio", "ratio", "first_call_over_adamw", "compile_s", "compile_cpu_s")) > 0
    )


def test_freed_memory_is_kept_by_a_process_of_its_own():
    script = (
        "import mmap\nfrom eval.speed.freed_memory import keep_freed_memory, page_faults\n"
        "kept = keep_freed_memory()\nbytearray(2**26)\nbefore = page_faults()\n"
        "for _ in range(3): bytearray(2**26)\nprint(kept, (page_faults() - before) * mmap.PAGESIZE < 2**24)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # Where malloc is not glibc's, nothing is promised.
    assert done.stdout.split() == ["True", "True"] or done.stdout.startswith("False")


def test_extra_arguments_are_what_an_optimizer_reads():
    gradient = {"w": jnp.ones((3, 2))}
    workers = update.extra_arguments(learned_opt.lagg_a(num_workers=5, hidden_size=4), gradient)["worker_updates"]
    assert jax.tree.map(jnp.shape, workers) == {"w": (5, 3, 2)}
    assert "worker_updates" not in update.extra_arguments(learned_opt.lopt_a(hidden_size=4), gradient)


def test_row_takes_each_figure_from_its_tree():
    found = {
        tree: dict.fromkeys(("first_call_over_adamw", "compile_cpu_s", "compile_s", "state_bytes_per_param"), float(i))
        | {"cpu_ratio": i + 0.1, "ratio": i + 0.2, "temp_bytes_per_param": float(10 * i)}
        for i, tree in enumerate(("mlp", "deep_mlp", "transformer"), start=1)
    }
    assert costs.row("mine", found) == "| mine | 1.1 (1.2) | 3.1 (3.2) | 1.0 | 2.0 | 3.0 (3.0) | 3.0 | 30.0 |"
    assert costs.HEADER.splitlines()[0].count("|") == costs.row("mine", found).count("|")


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (update.main, ["mlp"], "use python -m eval.speed.update TREE OPTIMIZER"),
        (update.main, ["mpl", "lopt_a"], "tree='mpl': did you mean 'mlp'?"),
        (update.main, ["mlp", "lopt_b"], "did you mean 'lopt_a'?"),
        (update.main, ["mlp", "lopt_a,hidden_size=0"], "hidden_size=0"),
        (costs.main, ["lagg_seed"], "row 'lagg_seed': did you mean 'lagg_set'?"),
        (families.main, ["fmnist8_mlp"], "unknown task family 'fmnist8_mlp'"),
        (diagnostics.main, ["sharpnes"], "did you mean 'sharpness'?"),
    ],
)
def test_mistakes_are_one_line(main, arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err and captured.err.count("\n") == 1
    assert not captured.out
