"""The search for `lagg_any`, on one tiny problem."""

import json
import re

import jax
import numpy as np
import pytest

import meta_train.search.curves
import meta_train.search.scores
from learned_opt.checkpoint import load_checkpoint
from meta_train.search import __main__ as command
from meta_train.search import lagg_any
from meta_train.search.curves import LARGEST_GAIN, LARGEST_LOSS, build_curves, score_by_loss, score_by_rounds
from meta_train.search.problems import META_TRAIN_PROBLEMS, META_VALID_PROBLEMS, Problem, problem_of
from meta_train.search.scores import Scores
from tasks.suites import META_TRAIN, META_VALID

TINY = Problem("teacher_student", 2, 2, 2, 8)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(command, "META_TRAIN_PROBLEMS", (TINY,))
    monkeypatch.setattr(command, "META_VALID_PROBLEMS", (TINY,))


def test_problems_are_of_their_suites():
    drawn, others = (
        {problem.family for problem in problems if re.fullmatch(r"sampled_\w+,seed=\d+", problem.family)}
        for problems in (META_TRAIN_PROBLEMS, META_VALID_PROBLEMS)
    )
    assert drawn and others and not drawn & others
    assert {name.partition(",")[0] for name in drawn} == {name.partition(",")[0] for name in others}
    assert {problem.family for problem in META_TRAIN_PROBLEMS} - drawn <= set(META_TRAIN)
    assert {problem.family for problem in META_VALID_PROBLEMS} - others <= set(META_VALID)


def test_no_generation_is_where_the_search_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "validate", lambda options: {"mean": 0.0})
    monkeypatch.setattr(command, "Scores", lambda problems: pytest.fail("nothing is to be judged"))
    assert command.main(["--run-dir", str(tmp_path), "--generations", "0"]) == 0
    found = load_checkpoint(tmp_path / "lagg_any.safetensors")
    expected = lagg_any.theta_of(lagg_any.start())
    jax.tree.map(np.testing.assert_array_equal, found.theta, expected)
    jax.tree.map(np.testing.assert_array_equal, load_checkpoint("lagg_any").theta, expected)
    assert command.main(["--run-dir", str(tmp_path), "--generations", "-1"]) == 2


def test_a_generation_takes_its_part_of_the_problems(tmp_path, monkeypatch):
    problems = tuple(TINY._replace(num_workers=1 + i, num_local_steps=1) for i in range(3))
    monkeypatch.setattr(command, "META_TRAIN_PROBLEMS", problems)
    monkeypatch.setattr(command, "validate", lambda options: {"mean": 0.0})
    asked = []
    monkeypatch.setattr(
        command,
        "Scores",
        lambda all_of_them: (
            lambda part, candidates, seeds: (
                asked.append(part) or {problem.full_name: np.arange(4.0) for problem in part}
            )
        ),
    )
    small = ["--population", "4", "--generations", "3", "--parts", "2"]
    assert command.main(["--run-dir", str(tmp_path), *small]) == 0
    assert asked == [problems[::2], problems[1::2], problems[::2]]
    assert command.main(["--run-dir", str(tmp_path / "other"), "--parts", "4"]) == 2


@pytest.mark.slow
def test_several_processes_score_as_one(monkeypatch):
    problems = (TINY, TINY._replace(num_workers=1))
    candidates = np.stack([lagg_any.start(), 0.5 * lagg_any.start()])
    one = Scores(problems)(problems, candidates, [7])
    monkeypatch.setattr(meta_train.search.scores, "PROBLEMS_PER_PROCESS", 1)
    several = Scores(problems)(problems, candidates, [7])
    assert list(one) == list(several)
    for name in one:
        np.testing.assert_allclose(one[name], several[name], atol=1e-6)


def test_zeros_are_the_anchor():
    zeros = np.zeros((1, len(lagg_any.ENTRIES)))
    curves, anchor = build_curves(TINY, lagg_any.algorithm, lagg_any.anchor)
    found, reference = curves(zeros, [3, 4]), anchor(zeros, [3, 4])
    assert found.shape == (1, 2, 2)
    np.testing.assert_allclose(found, reference, atol=1e-5)


def test_rounds_score_the_logarithm_of_a_speed_up():
    points = np.arange(1.0, 49)
    reference, faster = -np.log(points), -np.log(1.4 * points)
    assert score_by_rounds(faster, reference) == pytest.approx(-np.log(1.4), abs=0.01)
    assert score_by_rounds(reference, faster) == pytest.approx(np.log(1.4), abs=0.01)
    # It is of rounds, whatever a problem's losses do in one.
    assert score_by_rounds(0.01 * faster, 0.01 * reference) == pytest.approx(score_by_rounds(faster, reference))
    assert score_by_rounds(reference, reference) == 0
    np.testing.assert_array_equal(score_by_rounds(np.stack([reference, faster]), reference)[0], 0)


def test_rounds_score_where_a_training_ends():
    reference = -np.log1p(np.arange(48.0))
    rising = np.where(np.arange(48) < 40, 2 * reference, 0)
    assert score_by_rounds(rising, reference) == pytest.approx((LARGEST_LOSS - 2 * LARGEST_GAIN) / 3)
    assert score_by_rounds(np.full(48, 1.0), reference) == pytest.approx(LARGEST_LOSS)
    assert score_by_rounds(np.full(48, -100.0), reference) == pytest.approx(-LARGEST_GAIN)


def test_losses_score_after_a_third():
    reference = np.zeros(6)
    assert score_by_loss(np.asarray([-9.0, 9.0, 0.1, 0.1, 0.1, 0.3]), reference) == pytest.approx(0.15)


def test_one_problem_is_scored_by_loss_and_several_by_rounds():
    problems = (TINY, TINY._replace(num_workers=1))
    candidate, seeds = np.full((1, len(lagg_any.ENTRIES)), 0.5), [7]
    curves, anchor = build_curves(TINY, lagg_any.algorithm, lagg_any.anchor)
    found, reference = curves(candidate, seeds), anchor(candidate, seeds)
    (alone,) = Scores((TINY,))((TINY,), candidate, seeds).values()
    beside, _ = Scores(problems)(problems, candidate, seeds).values()
    np.testing.assert_allclose(alone, score_by_loss(found, reference).mean(-1), atol=1e-5)
    np.testing.assert_allclose(beside, score_by_rounds(found, reference).mean(-1), atol=1e-5)


def test_interrupted_and_continued_it_is_the_same_search(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "validate", lambda options: {"mean": 0.0})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    small = ["--population", "4", "--seed", "5"]
    assert command.main(["--run-dir", str(whole), "--generations", "2", *small]) == 0
    for generations in ("1", "2"):
        assert command.main(["--run-dir", str(parts), "--generations", generations, *small]) == 0
    rows = [
        [json.loads(line) for line in (run / "generations.jsonl").read_text().splitlines()] for run in (whole, parts)
    ]
    for one, other in zip(*rows, strict=True):
        assert one["totals"] == other["totals"] and one["mean_of_search"] == other["mean_of_search"]
    assert rows[0][0]["totals"] != rows[0][1]["totals"]
    loaded = load_checkpoint(whole / "lagg_any.safetensors")
    averaged = np.asarray(rows[0][-1]["mean_of_search"])
    expected = lagg_any.theta_of(averaged)
    jax.tree.map(np.testing.assert_array_equal, loaded.theta, expected)
    assert loaded.local_opt == lagg_any.RECIPE
    assert command.main(["--run-dir", str(whole), "--population", "6"]) == 2
    assert "holds a search with" in capsys.readouterr().err


def test_problems_of_ones_own_are_searched_from_the_anchor(tmp_path, capsys):
    text = "teacher_student,num_workers=2,num_local_steps=2,batch_size=2,max_unroll_length=8"
    assert problem_of(text) == TINY and problem_of("fmnist8_mlp32") == Problem("fmnist8_mlp32", 8, 4, 16, 200)
    run = ["--run-dir", str(tmp_path), "--generations", "1", "--population", "4"]
    assert command.main([*run, "--from-anchor", "--problems", text]) == 0
    card = load_checkpoint(tmp_path / "lagg_any.safetensors").card
    assert card["task"] == "teacher_student" and card["num_workers"] == [2]
    (row,) = map(json.loads, (tmp_path / "generations.jsonl").read_text().splitlines())
    assert list(row["problems"]) == [f"{TINY.name} T=8"] and np.abs(row["mean_of_search"]).max() < 1
    assert command.main([*run, "--from-anchor"]) == 2
    assert "holds a search with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--population", "1"], "population=1"),
        (["--generatons", "1"], "generatons"),
        (["--problems", "fmnist8_mlp32,sigma=1"], "sigma has no meaning in a search"),
        (["--problems", "fmnist8_mlp32,num_workers=0"], "at least 1 worker"),
        (["--problems", "fmnist8_mpl32"], "did you mean 'fmnist8_mlp32'"),
    ],
)
def test_mistakes_are_one_line(arguments, says, tmp_path, capsys):
    assert command.main(["--run-dir", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_the_result_is_averaged_over_the_last_third(tmp_path):
    rows = [json.dumps({"mean_of_search": [float(i), 2.0 * i]}) for i in range(7)]
    (tmp_path / "generations.jsonl").write_text("\n".join(rows) + "\n")
    found, generations = command.result(command.Search(tmp_path))
    np.testing.assert_array_equal(found, [5.5, 11.0])
    assert generations == 7


def test_a_card_names_the_families_and_counts_those_of_one_function():
    references = ["quadratics32", "sampled_network,seed=1", "sampled_network,seed=2", "sampled_network,seed=1"]
    problems = tuple(TINY._replace(family=reference) for reference in references)
    assert command._families(problems) == ["quadratics32", "sampled_network (2 of its problems)"]
    assert command._families(problems[:2]) == references[:2]


def test_a_result_is_scored_on_meta_valid(tmp_path, monkeypatch):
    made, find_family = [], meta_train.search.curves.find_family
    monkeypatch.setattr(meta_train.search.curves, "find_family", lambda name: made.append(name) or find_family(name))
    assert command.main(["--run-dir", str(tmp_path), "--generations", "1", "--population", "4"]) == 0
    scores = json.loads((tmp_path / "validation.json").read_text())
    (name,) = set(scores) - {"mean"}
    assert name == f"{TINY.name} T=8" and scores["mean"] == scores[name] != 0
    # Once for the search and once here, for the optimizer and the anchor together.
    assert made == 2 * [TINY.family]
