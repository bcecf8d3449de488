"""Claims: ratios by hand, the rule of what holds, and that every claim finds who it is about."""

import dataclasses

import jax
import numpy as np
import pytest

from eval.claims.cells import CELLS, Cell
from eval.claims.claim import Claim, at_equal, final_loss, final_minibatch_loss, grows, loss_at, outcome, over
from eval.claims.contenders import NOISE, private
from eval.claims.finished import finished
from eval.claims.run import check_cells, claims_table, run_claims
from eval.claims.table import CLAIMS
from eval.compare.contenders import Contender
from eval.compare.participants import named_contender
from eval.machine.progress import SweepProgress
from eval.results import save_results
from eval.scores.spending import bytes_sent
from learned_opt.algorithms.diff2 import diff2
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY, toy_family

SLOW, FAST = [[8.0, 6.0, 4.0], [8.0, 6.0, 3.0]], [[8.0, 4.0, 2.0], [8.0, 4.0, 3.0]]
SPARSE = contender("sparse", SLOW, bytes_per_round=400)
DIVERGED = contender("diverged", [[8.0, 4.0, np.inf], [8.0, 4.0, 3.0]])
CELL = results(contender("slow", SLOW), contender("fast", FAST, [4.0, 4.0]), SPARSE, DIVERGED)


def test_final_losses():
    assert final_loss("a", "fast", "slow")({"a": CELL}).tolist() == [2.0, 1.0]
    assert final_loss("a", "fast", "slow", "test")({"a": CELL}).tolist() == [1.0, 0.75]
    assert final_loss("a", "diverged", "slow")({"a": CELL}).tolist() == [0.0, 1.0]
    assert final_loss("a", "slow", "diverged")({"a": CELL}).tolist() == [np.inf, 1.0]
    half = results(contender("slow", 0.5 * np.asarray(SLOW)))
    assert final_loss("a", "fast", "slow", rival_cell="b")({"a": CELL, "b": half}).tolist() == [1.0, 0.5]
    assert grows(final_loss("a", "fast", "slow"), final_loss("a", "slow", "slow"))({"a": CELL}).tolist() == [0.5, 1.0]
    assert final_minibatch_loss("a", "fast", "slow")({"a": CELL}).tolist() == [2.0, 1.0]
    assert over(np.array([np.inf]), np.array([np.inf])).tolist() == [0.0]


def test_losses_when_both_had_spent_the_same():
    # Three rounds of 400 bytes are one of 1,000, and a part.
    ratio = at_equal(lambda c, p: bytes_sent(c), "a", "sparse", "fast")({"a": CELL})
    assert ratio.tolist() == [8.0 / 4.0, 8.0 / 3.0]
    # The other way round it is the same comparison.
    inverse = at_equal(lambda c, p: bytes_sent(c), "a", "fast", "sparse")({"a": CELL})
    np.testing.assert_allclose(inverse, 1 / ratio)


def test_curves_are_steps():
    spent, losses = np.array([[10.0, 20.0, 30.0]] * 4), np.array([[3.0, 2.0, 1.0]] * 4)
    assert loss_at(spent, losses, np.array([5.0, 10.0, 29.0, 99.0])).tolist() == [3.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("ratios", "least", "verdict"),
    [
        ([1.2, 1.1], 1.0, "holds"),
        ([1.2, 0.9], 1.0, "not clear"),
        ([0.8, 1.1], 1.0, "does not hold"),
        ([1.0, 1.0], 1.0, "does not hold"),
        ([0.99, 0.985], 0.98, "holds"),
        ([0.0, 5.0], 1.0, "does not hold"),
    ],
)
def test_a_claim_holds_if_every_seed_says_so(ratios, least, verdict):
    claim = Claim("", "", "", (), lambda cells: np.array(ratios), least)
    found = outcome(claim, claim.ratio({}))
    assert found.verdict == verdict and (found.low, found.high) == (min(ratios), max(ratios))
    assert found.mean == pytest.approx(float(np.sqrt(ratios[0] * ratios[1])))


def test_every_claim_is_about_contenders_of_its_cells():
    everyone = {
        name: results(
            *(contender(named_contender(c, cell.protocol).name, SLOW) for c in cell.contenders), protocol=cell.protocol
        )
        for name, cell in CELLS.items()
    }
    for claim in CLAIMS:
        found = claim.ratio({name: everyone[name] for name in claim.cells})
        assert np.isfinite(found).all() and claim.paper and claim.statement
    # Nobody is trained for nothing but those that others are measured against.
    assert {name for claim in CLAIMS for name in claim.cells} == set(CELLS)


def test_misses_are_in_the_table_as_misses():
    good, bad = (
        Claim(f"{word} claim", "Author 2020", "loss", ("a",), final_loss("a", *names))
        for word, names in (("good", ("fast", "sparse")), ("bad", ("slow", "fast")))
    )
    elsewhere = good._replace(cells=("b",))
    text = claims_table((good, bad, elsewhere), {"a": CELL})
    assert "| bad claim | Author 2020 | loss, a | 0.707 (0.500 to 1.000) | > 1 | does not hold |" in text
    assert "Of 2 claims 0 hold, 1 do not, and 1 are not clear." in text


@pytest.mark.parametrize("restart_every", [1, 3, 6])
def test_privacy_spends_its_budget(restart_every, monkeypatch):
    given = {}

    def watched(*arguments, **settings):
        given.update(settings)
        return diff2(*arguments, **settings)

    monkeypatch.setattr("eval.claims.contenders.diff2", watched)
    private(TOY, restart_every)
    clips = {"gradient": given["gradient_clip"], "difference": given["difference_clip"]}
    multipliers = {name: TOY.num_workers * given[f"{name}_noise"] / clip for name, clip in clips.items()}
    restarts = -(-TOY.num_rounds // restart_every)
    spent = restarts / multipliers["gradient"] ** 2
    if restarts < TOY.num_rounds:
        spent += (TOY.num_rounds - restarts) / multipliers["difference"] ** 2
    assert spent == pytest.approx(TOY.num_rounds / NOISE**2)


def test_a_run_goes_on_where_it_was(tmp_path):
    protocol = dataclasses.replace(TOY, task="fmnist8_mlp32", num_rounds=2, num_seeds=2, num_workers=2)
    references = ("optax:sgd,learning_rate=0.5", "slow=optax:sgd,learning_rate=0.01")
    cell = Cell("toy", protocol, references, lambda family, num_workers: toy_family())
    claim = Claim("fast over slow", "", "loss", ("toy",), final_loss("toy", "sgd", "slow"))
    told = []
    progress = SweepProgress(lambda name, status: told.append(status.split(" in ")[0]), lambda *_: None)
    first = run_claims([cell], tmp_path, progress, [claim])
    assert run_claims([cell], tmp_path, progress, [claim]) == first == (tmp_path / "claims.md").read_text()
    assert told == ["running", "finished", "finished before"] and "| fast over slow |" in first


def test_results_of_other_contenders_are_not_those_of_a_cell(tmp_path):
    save_results(tmp_path / "results.json", CELL)
    contenders = [Contender(c.name, lambda hparams: None, {}, kind=c.kind) for c in CELL.contenders]  # pyright: ignore[reportArgumentType]
    assert finished(tmp_path, CELL.protocol, contenders) is not None
    others = [contenders[0]._replace(name="another"), *contenders[1:]]
    assert finished(tmp_path, CELL.protocol, others) is None
    assert finished(tmp_path, dataclasses.replace(CELL.protocol, seed=1), contenders) is None


def test_few_examples_are_the_same_in_every_round():
    family = CELLS["private"].change(toy_family(), 2)
    task = family.task({}, {"train": family.data["train"], "test": family.data["test"]})
    first, second = (task.sample_batch(jax.random.key(i), "train", (2, 1, 4)) for i in range(2))
    np.testing.assert_array_equal(first["image"], second["image"])
    others = [task.sample_batch(jax.random.key(i), "test", (8,))["image"] for i in range(2)]
    assert not np.array_equal(*others)


def test_cells_by_name():
    assert check_cells(("all",)) == tuple(CELLS.values())
    assert [cell.name for cell in check_cells(("ring", "alike"))] == ["alike", "ring"]
    with pytest.raises(ValueError, match="cells: 'rng' is unknown; did you mean 'ring'"):
        check_cells(("rng",))
    with pytest.raises(ValueError, match="cells: none named"):
        check_cells(())
