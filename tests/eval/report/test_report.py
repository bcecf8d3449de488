"""The report: deterministic, self-contained, complete about what failed."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from eval.diagnostics.worker_agreement import WORKER_AGREEMENT
from eval.report.detail_tables import diagnostics_table
from eval.report.report import load_run, write_report
from eval.report.spending import spending_curves, traffic_table
from eval.report.svg import legend_columns, legend_height
from eval.results import save_results
from eval.scores.network import Network
from eval.sweep.axes import AXES, axis_plan
from eval.sweep.plan import Cell, SweepPlan
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY as TOY_PROTOCOL

TOY = dataclasses.replace(TOY_PROTOCOL, task="fmnist8_mlp32")
CURVES = np.linspace(3, 1, 6) + np.arange(3)[:, None] / 10
TUNED = {"num_runs": 27, "seconds": 12.3, "extensions": 0, "interior": True, "trials": []}
ONCE = {"num_runs": 54, "seconds": 30.0}
ODD_NAME = 'a<b>&"c"|d'


def write_run(folder, plan, cells, failed=()):
    folder.mkdir()
    document = {"format_version": 1, **dataclasses.asdict(plan)}
    (folder / "sweep.json").write_text(json.dumps(document))
    for name, result in cells.items():
        (folder / "cells" / name).mkdir(parents=True)
        save_results(folder / "cells" / name / "results.json", result)
    for name in failed:
        (folder / "cells" / name).mkdir(parents=True)
        failure = {"format_version": 1, "message": "ValueError: boom", "traceback": "line 1", "seconds": 3.0}
        (folder / "cells" / name / "failed.json").write_text(json.dumps(failure))
    return folder


def everyone(factor=0.7):
    watched = {name: np.full((3, 6), 0.25, np.float32) for name in (d.name for d in WORKER_AGREEMENT)}
    return [
        contender("local_sgd", CURVES, diagnostics=watched, tuning=TUNED),
        contender("local_sgd_one_setting", CURVES, details={"one_setting": ONCE}, tuning={**TUNED, "num_runs": 0}),
        contender("diloco", 0.9 * CURVES),
        contender(ODD_NAME, np.full((3, 6), np.inf), kind="other"),
        contender("mine", factor * CURVES, kind="learned"),
    ]


def few():
    """For what needs no curve of a diagnostic, which is what takes longest to draw."""
    return [
        contender("local_sgd", CURVES),
        contender(ODD_NAME, np.full((3, 6), np.inf)),
        contender("mine", 0.7 * CURVES),
    ]


def make_suite_run(folder):
    cells = tuple(Cell(name, dataclasses.replace(TOY, task=name)) for name in ("one", "two", "three", "four"))
    finished = {c.name: results(*everyone(), protocol=c.protocol) for c in cells[:2]}
    return write_run(folder, SweepPlan("suite", "toys", cells), finished, failed=("three",))


@pytest.fixture
def suite_run(tmp_path):
    return make_suite_run(tmp_path / "run")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run folder with its report, and the page."""
    folder = make_suite_run(tmp_path_factory.mktemp("reported") / "run")
    return folder, write_report([folder]).read_text()


def test_the_same_results_give_the_same_bytes(reported, suite_run):
    copy, page = reported
    assert write_report([suite_run]).read_text() == page
    names = sorted(p.relative_to(suite_run) for p in suite_run.rglob("*.csv")) + ["report.md"]
    assert len(names) > 5
    for name in names:
        assert (suite_run / name).read_bytes() == (copy / name).read_bytes()


def test_the_page_needs_nothing_else(reported):
    _, page = reported
    assert set(re.findall(r'(?:src|href)="([^"]{0,26})', page)) == {"data:image/svg+xml;base64,"}
    assert "http" not in re.sub(r'src="[^"]*"', "", page)
    assert "a&lt;b&gt;" in page and "a<b>" not in page


def test_it_opens_with_the_verdict_and_says_what_was_trained(reported):
    suite_run, page = reported
    sections = re.findall(r"<h2>([^<]*)</h2>", page)
    assert sections[:2] == ["Verdict", "What failed"] and sections[2:4] == ["What was trained", "Results"]
    assert "mine over 2 cells: " in page[: page.index("What failed")]
    with open(suite_run / "tables" / "tasks.csv", newline="") as file:
        header, first, _ = csv.reader(file)
    row = dict(zip(header, first, strict=True))
    assert row["task"] == "toy: Softmax regression" and row["parameters"] == "2,410"
    assert row["examples: train / valid / test"] == "90 / 40 / 50" and row["reported"] == "loss, relative_l2"
    assert row["an example"] == "image uint8 [2, 2, 1]" and row["constant guess"] == "1.099"


def test_curves_of_training_test_metrics_and_diagnostics(reported):
    _, page = reported
    captions = re.findall(r"<h3>([^<]*)</h3><div class=figure><img", page)
    assert captions[2].startswith("Training loss; dotted: targets")
    assert captions[3:5] == ["Test loss, on fixed examples", "Test relative_l2, on fixed examples"]
    assert captions[5:] == ["Training loss", *(d.name.replace("_", " ") for d in WORKER_AGREEMENT)]


def test_some_diagnostics_have_a_number_of_their_whole_curve():
    # Rounds 1 to 6: the first half ends with 3; the distance grows by 2 when the round grows by a factor e.
    fisher, distance = np.array([[4.0, 9.0, np.nan, 10.0, 3.0, 2.0]]), 1 + 2 * np.log(np.arange(1, 7.0))[None]
    watched = {"fisher_trace": fisher, "distance_from_initialisation": distance}
    cell = results(contender("a", CURVES[:1], diagnostics=watched), contender("b", CURVES[:1]), protocol=TOY)
    table = diagnostics_table({"one": cell})
    assert table is not None and len(table.rows) == 2
    row = dict(zip(*table.rows, strict=True))
    assert (row["fisher trace"], row["early peak of the fisher trace"]) == ("5.6", "9")
    assert row["distance per e-fold of rounds"] == "2"
    assert "early peak of the fisher trace" in table.note


def test_losses_are_drawn_against_bytes_and_seconds_where_these_tell_contenders_apart(reported):
    _, page = reported
    assert "Training loss against" not in page and "What a round costs a worker" in page
    cost = {"bytes_received": 4000, "peak_bytes": 100, "gradients": 2.0, "state_bytes_per_parameter": 8.0}
    sparse = contender("sparse", CURVES, bytes_per_round=100, cost=cost)
    cells = {"one": results(contender("local_sgd", CURVES), sparse, protocol=TOY)}
    captions = [caption for caption, _ in spending_curves(cells, Network())]
    assert captions == [
        "Training loss against megabytes sent by a worker",
        "Training loss against simulated seconds",
    ]
    assert traffic_table(cells).rows[1:] == [
        ["one", "local_sgd", "1", "-", "-", "-", "-"],
        ["one", "sparse", "0.1", "4", "0.1", "2", "8"],
    ]


def test_budgets_stand_beside_every_row(reported):
    suite_run, _ = reported
    with open(suite_run / "tables" / "price_one.csv", newline="") as file:
        rows = {row["optimizer"]: row for row in csv.DictReader(file)}
    assert (rows["local_sgd"]["tuning runs"], rows["local_sgd"]["tuning s"]) == ("27", "12")
    assert (rows["mine"]["tuning runs"], rows["mine"]["tuning s"]) == ("0", "0")
    fixed = rows["local_sgd_one_setting"]
    assert fixed["setting"] == "lr 0.1 (one for all cells)" and fixed["tuning runs"] == "54 once"


def test_the_columns_of_a_legend_fit_its_figure():
    names = ["sgd", "diloco_adamw_one_setting", "lagg_fmnist8_k8_h16_anchor"]
    assert legend_columns(names, 11.0) == 3 and legend_columns(names, 5.0) == 1
    assert legend_height(names, 5.0) > legend_height(names, 11.0)
    assert legend_columns(["x" * 500], 3.0) == 1


def test_failures_are_shown(reported):
    suite_run, page = reported
    assert "2 of 4 cells finished, 1 failed, 1 not run or still running" in page
    assert "ValueError: boom" in page and "not finished" in page
    assert "ValueError: boom" in (suite_run / "report.md").read_text()


def test_csv_and_page_hold_the_same_rows(reported):
    suite_run, page = reported
    with open(suite_run / "tables" / "speed.csv", newline="") as file:
        header, *body = csv.reader(file)
    assert [row[0] for row in body] == ["local_sgd", "local_sgd_one_setting", "diloco", ODD_NAME, "mine"]
    assert all(len(row) == len(header) for row in body)
    mine = body[4]
    assert all(f">{cell}</td>" in page for cell in mine)
    with open(suite_run / "tables" / "cell_one.csv", newline="") as file:
        cell_header = next(csv.reader(file))
    assert "test relative_l2" in cell_header and "test accuracy" not in cell_header


def test_an_axis_has_its_curve_and_table_and_what_learning_adds(tmp_path):
    plan = axis_plan("num_local_steps", TOY, values=(1, 4))
    anchor = contender("mine_anchor", CURVES, kind="anchor", details={"anchor_of": ["mine"]})
    mine = contender("mine", 0.7 * CURVES, kind="learned")
    cells = {c.name: results(*few()[:2], mine, anchor, protocol=c.protocol) for c in plan.cells}
    run = write_run(tmp_path / "axis", plan, cells)
    page = write_report([run]).read_text()
    assert "Axis num_local_steps" in page and (run / "tables" / "axis_num_local_steps.csv").exists()
    assert (run / "axes.svg").read_text().startswith("<?xml")


def test_one_comparison_is_a_run_too(tmp_path):
    save_results(tmp_path / "results.json", results(*few(), protocol=TOY))
    sweep = load_run(tmp_path)
    assert list(sweep.finished) == ["fmnist8_mlp32"] and load_run(tmp_path / "results.json").plan == sweep.plan
    assert write_report([tmp_path / "results.json"]) == tmp_path / "report.html"


def test_no_finished_cell_and_no_run(tmp_path):
    plan = SweepPlan("suite", "toys", (Cell("one", TOY),))
    run = write_run(tmp_path / "run", plan, {}, failed=("one",))
    assert "ValueError: boom" in write_report([run]).read_text()
    with pytest.raises(ValueError, match="no run given"):
        write_report([])
    with pytest.raises(ValueError, match=r"runs='runs/mine': use a list, \['runs/mine'\]"):
        write_report("runs/mine")
    with pytest.raises(FileNotFoundError, match="nowhere: no such results file; 'python -m eval compare'.* writes one"):
        write_report([tmp_path / "nowhere"])


def test_long_names_unfinished_cells_and_a_learned_optimizer_without_a_file(tmp_path):
    plan = SweepPlan("suite", "a,b,c,d", (Cell("one", TOY), Cell("two", TOY)))
    made = contender("made", 0.5 * CURVES, kind="learned", details={})
    run = write_run(tmp_path / "run", plan, {"one": results(contender("local_sgd", CURVES), made, protocol=TOY)})
    page = write_report([run]).read_text()
    assert "<h1>Evaluation: suite of 4 families</h1>" in page and "made in one cell: " in page
    assert "What has not finished" in page and "What failed" not in page


def test_unreadable_files_are_named(suite_run):
    (suite_run / "cells" / "two" / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"two/results\.json: damaged"):
        write_report([suite_run])


def test_cells_of_one_name_are_refused(suite_run):
    with pytest.raises(ValueError, match="two of the runs have a cell 'one'"):
        write_report([suite_run, suite_run])


def test_every_axis_names_its_label():
    assert all(axis.label and axis.values == tuple(sorted(axis.values)) for axis in AXES.values())
