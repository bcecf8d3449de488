"""The whole comparison on a toy task: fair to a planted copy, blind to the test split."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from eval.compare.baselines import make_baselines
from eval.compare.compare import compare, prepare, run
from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis
from eval.compare.learned import learned
from eval.report.comparison import write_comparison
from eval.report.table import markdown_table, plain_table, rows
from eval.results import load_results
from eval.scores.targets import targets
from learned_opt.algorithms.controls.lookahead import lookahead
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.topology import ring
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg
from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.checkpoint import save
from tests.eval.toy import TOY, toy_data, toy_family

K = TOY.num_workers
GRID = {"lr": GridAxis((0.5, 1.0))}


def contender(name, factor=1.0):
    return Contender(name, lambda h: local_sgd(optax.sgd(factor * h["lr"]), fedavg()), GRID, kind="baseline")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    contenders = [contender("local_sgd"), contender("copy"), contender("diverging", math.nan)]
    results = compare(TOY, [], folder, baselines=(), contenders=contenders, family=toy_family())
    write_comparison(results, folder)
    return results, folder


@pytest.mark.optimized
def test_a_planted_copy_of_a_baseline_is_equal_in_everything(compared):
    original, copy, _ = compared[0].contenders
    assert copy.hparams == original.hparams and copy.tuning == original.tuning
    np.testing.assert_array_equal(copy.train_loss, original.train_loss)
    np.testing.assert_array_equal(copy.final["test"]["loss"], original.final["test"]["loss"])
    header, *body = rows(compared[0])
    assert body[1][header.index("speed-up")] == body[0][header.index("speed-up")] == "1.00x"


def test_a_diverging_contender_is_counted_not_dropped(compared):
    header, *body = rows(compared[0])
    assert [row[0] for row in body] == ["local_sgd", "copy", "diverging"]
    assert body[2][header.index("diverged")] == str(TOY.num_seeds)
    assert body[2][header.index("train loss")] == "diverged"
    assert body[2][header.index("speed-up")] == "-"


def test_a_diverged_baseline_sets_no_target(compared):
    results = compared[0]
    diverged = results.contenders[2]._replace(name="local_sgd")
    assert targets(results._replace(contenders=(diverged,))) == {}


def test_the_folder_holds_results_table_and_figure(compared):
    results, folder = compared
    assert (folder / "table.md").read_text() == markdown_table(load_results(folder / "results.json"))
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "local_sgd: lr" in markdown_table(results)
    lines = plain_table(results).splitlines()
    assert any(line.startswith("diverging") for line in lines)


@pytest.mark.optimized
def test_earlier_tuned_baselines_are_trained_again_for_other_seeds(compared, tmp_path):
    earlier, folder = compared
    stages = []
    results = compare(
        dataclasses.replace(TOY, num_seeds=4),
        [],
        tmp_path,
        lambda stage, done, total: stages.append(stage),
        baselines_from=folder / "results.json",
        baselines=(),
        contenders=[contender("local_sgd")],
        family=toy_family(),
    )
    assert set(stages) == {"training local_sgd"}
    assert results.contenders[0].hparams == earlier.contenders[0].hparams
    assert results.provenance["baselines_from"] == str(folder / "results.json")
    np.testing.assert_array_equal(results.contenders[0].train_loss[:3], earlier.contenders[0].train_loss)


def test_earlier_results_under_the_same_protocol_are_taken_over(compared, tmp_path):
    earlier, folder = compared

    def one_round(*arguments):
        raise AssertionError("trained again")

    made = local_sgd(optax.sgd(0.1), fedavg())._replace(round=one_round)
    again = Contender("local_sgd", lambda hparams: made, GRID, kind="baseline")
    source = folder / "results.json"
    results = compare(TOY, [], tmp_path, baselines=(), contenders=[again], baselines_from=source, family=toy_family())
    np.testing.assert_array_equal(results.contenders[0].train_loss, earlier.contenders[0].train_loss)
    assert results.contenders[0].tuning == earlier.contenders[0].tuning


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: dpsgd(optax.sgd(0.1), ring(5)), "weights are for 5 workers and there are 2"),
        (lambda: lookahead(optax.sgd(0.1), 7), "num_local_steps=7: the batches have 2 local steps"),
        ("streaming_diloco,num_fragments=3", "num_fragments=3: use 1 to 2, the parameters have as many tensors"),
    ],
)
def test_what_does_not_fit_the_task_or_the_protocol_is_found_before_any_training(tmp_path, made, message):
    given = made if isinstance(made, str) else Contender("mine", lambda hparams, made=made: made(), {})
    with pytest.raises(ValueError, match=message):
        prepare(TOY, [], tmp_path, baselines=(), contenders=[given], family=toy_family())


def test_baselines_of_another_protocol_are_refused(compared, tmp_path):
    other = dataclasses.replace(TOY, num_local_steps=1)
    with pytest.raises(ValueError, match="tuned for num_local_steps=2, the protocol has 1"):
        prepare(other, [], tmp_path, baselines_from=compared[1] / "results.json")


class Recorder(dict):
    """Notes when the arrays of each split are asked for."""

    def __init__(self, data, log):
        super().__init__(data)
        self.log = log

    def __getitem__(self, split):
        self.log.append(split)
        return super().__getitem__(split)


def test_the_test_split_is_read_after_all_tuning_and_training(tmp_path):
    log: list[str] = []
    family = toy_family(Recorder(toy_data(), log))
    everyone = [contender("local_sgd"), contender("copy")]
    comparison = prepare(TOY, [], tmp_path, baselines=(), contenders=everyone, family=family)
    # What was read so far is the form of the data: shapes, dtypes, the range of the labels.
    log.clear()
    run(comparison, lambda stage, done, total: log.append(f"{stage} {done}/{total}"))
    assert "tuning local_sgd 2/2" in log
    assert log.index("test") > log.index("training copy 3/3")
    before_final = log[: log.index("training local_sgd 0/3")]
    assert {"train", "inner_valid"} == set(before_final) & set(toy_data())


def test_every_baseline_tunes_and_trains(tmp_path):
    one_seed = dataclasses.replace(TOY, num_rounds=2, num_seeds=1, max_extensions=0)
    smallest = [
        c._replace(grid={name: GridAxis(axis.values[1:2]) for name, axis in c.grid.items()})
        for c in make_baselines(one_seed, ("core",))
    ]
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        results = compare(one_seed, [], tmp_path, baselines=(), contenders=smallest, family=toy_family())
    for result in results.contenders:
        assert np.isfinite(result.train_loss).all(), result.name
    assert list(targets(results)) == ["local_sgd", "diloco"]


def save_checkpoint(path, lopt, **card):
    save(path, lopt, lopt.init(jax.random.key(0)), **card)
    return path


@pytest.mark.optimized
def test_an_untrained_nominal_checkpoint_is_local_sgd_to_the_last_bit(tmp_path):
    lopt = lagg_a(num_workers=K, hidden_size=4, nominal="average")
    path = save_checkpoint(tmp_path / "a.safetensors", lopt, local_opt={"name": "sgd", "learning_rate": 0.5})
    only = Contender("local_sgd", contender("local_sgd").make, {"lr": GridAxis((0.5,))})
    results = compare(TOY, [path, path], tmp_path, baselines=(), contenders=[only], family=toy_family())
    base, first, second = (c for c in results.contenders if c.kind != "anchor")
    assert (first.name, second.name) == ("lagg_a", "lagg_a_2")
    (anchor,) = (c for c in results.contenders if c.kind == "anchor")
    np.testing.assert_array_equal(anchor.train_loss, base.train_loss)
    np.testing.assert_array_equal(first.train_loss, base.train_loss)
    assert first.tuning["num_runs"] == 0 and first.details["checkpoint"] == str(path)


def test_a_single_machine_checkpoint_gets_the_whole_batch(tmp_path):
    path = save_checkpoint(tmp_path / "a.safetensors", adafac_mlp_lopt(hidden_size=4))
    algorithm = learned(path, TOY).make({})
    # Data-parallel workers keep nothing between rounds; those of local SGD keep their optimizer's state.
    assert algorithm.init({"w": np.zeros(3, np.float32)}).worker == ()


@pytest.mark.parametrize(
    ("lopt", "card", "message"),
    [
        (lagg_a(num_workers=5, hidden_size=4), {"local_opt": {"name": "sgd", "learning_rate": 0.5}}, "5 workers"),
        (lagg_a(num_workers=K, hidden_size=4), {}, "does not say what its workers run: save it with"),
    ],
)
def test_unsuitable_checkpoints(tmp_path, lopt, card, message):
    path = save_checkpoint(tmp_path / "a.safetensors", lopt, **card)
    with pytest.raises(ValueError, match=message):
        learned(path, TOY)


def test_provenance_says_what_ran(compared):
    record = load_results(compared[1] / "results.json").provenance
    assert record["versions"]["jax"] == jax.__version__
    assert {"git_commit", "git_dirty", "argv", "device", "seconds"} <= record.keys()
