"""A model card says what the result files say, losses included, and keeps what was written by hand."""

import dataclasses

import jax
import numpy as np
import pytest

import learned_opt
from eval import __main__ as cli
from eval.report.model_card import model_card
from eval.results import save_results
from learned_opt.checkpoint import load_checkpoint
from learned_opt.pretrained import find_model_card
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY

FALLING = np.linspace(3, 1, 6) + np.zeros((3, 1))


@pytest.fixture
def checkpoint(tmp_path):
    lopt = learned_opt.lagg_a(num_workers=8, hidden_size=4, nominal="momentum")
    path = tmp_path / "mine.safetensors"
    learned_opt.save(path, lopt, lopt.init(jax.random.key(0)), local_opt={"name": "sgd", "learning_rate": 0.5})
    return str(path)


def run(folder, factor, test_loss):
    """One comparison: `mine` follows Local SGD's curve times a factor."""
    everyone = [
        contender("local_sgd", FALLING, test_loss=[1.0] * 3),
        contender("diloco", 0.9 * FALLING, test_loss=[0.8] * 3),
        contender("mine", factor * FALLING, test_loss=[test_loss] * 3, kind="learned"),
        contender("mine_anchor", 0.9 * FALLING, kind="anchor", details={"anchor_of": ["mine"], "recipe": "a step"}),
    ]
    folder.mkdir()
    save_results(folder / "results.json", results(*everyone, protocol=dataclasses.replace(TOY, task=folder.name)))
    return str(folder)


def write(name, runs, checkpoint, out):
    return cli.main(["card", name, *runs, "--checkpoint", checkpoint, "--out", str(out)])


def test_says_where_it_wins_and_where_it_loses(tmp_path, checkpoint):
    good, bad = run(tmp_path / "good", 0.5, 0.7), run(tmp_path / "bad", 1.1, 0.9)
    out = tmp_path / "card.md"
    assert write("mine", [good, bad], checkpoint, out) == 0
    text = out.read_text()
    assert "| reads | every worker's pseudo-gradient |\n| local optimizer | sgd at 0.5 |\n| workers | 8 only |" in text
    assert 'learned_opt.load_algorithm("mine", num_workers=8, num_local_steps=4)' in text
    # The target 1 is met by half the curve at its fourth point of six (0.5 * 1.8), 0.9 at the fourth too.
    assert "| good | 1.50 | 1.50 | 1.50 | 1.50 | 0.7 | 0.8 (diloco) |" in text
    assert "| bad | never | never | never | never | 0.9 | 0.8 (diloco) |" in text
    losing = text.partition("## Where it loses")[2]
    where = f"- bad at H = {TOY.num_local_steps}: not faster than Local SGD or DiLoCo or best tuned or its anchor"
    assert f"{where}; test loss 0.9 against 0.8 (diloco)" in losing
    assert "good" not in losing


def test_keeps_its_notes_and_nothing_else(tmp_path, checkpoint):
    good, out = run(tmp_path / "good", 0.5, 0.7), tmp_path / "card.md"
    assert write("mine", [good], checkpoint, out) == 0
    first = out.read_text()
    assert "In none of the cells above." in first
    out.write_text("old\n\n## Notes\n\nBy hand.\n")
    assert write("mine", [good], checkpoint, out) == 0
    assert out.read_text() == first + "\n## Notes\n\nBy hand.\n"


@pytest.mark.parametrize("name", learned_opt.pretrained_names())
def test_describes_every_pretrained_optimizer(name):
    text = model_card(name, load_checkpoint(name), [])
    assert f"# {name}" in text and "| meta-trained on | " in text
    head, _, _ = text.partition("Whatever is not listed above was not measured.")
    assert (find_model_card(name) or "").startswith(head + "## Results")


@pytest.mark.parametrize(
    ("name", "runs", "message"),
    [("other", ["good"], "other took no part in compare good"), ("mine", ["nowhere"], "nowhere")],
)
def test_mistakes(tmp_path, checkpoint, capsys, name, runs, message):
    run(tmp_path / "good", 0.5, 0.7)
    out = tmp_path / "card.md"
    assert write(name, [str(tmp_path / r) for r in runs], checkpoint, out) == 2
    assert message in capsys.readouterr().err and not out.exists()
