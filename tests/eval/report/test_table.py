"""The table of one comparison: its numbers as text."""

import numpy as np
import pytest

from eval.report.table import loss_text, rows
from tests.eval.made_up import contender, results


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.3, "2.300"), (0.01, "0.010"), (0.00999, "1.0e-02"), (3.21e-8, "3.2e-08"), (-0.002, "-2.0e-03"), (0.0, "0.000")],
)
def test_small_losses_keep_their_digits(value, text):
    assert loss_text(value) == text


def test_losses_and_percentages_of_a_row():
    curve = np.array([[1.0, 2e-8], [1.0, 4e-8]])
    made = contender("local_sgd", curve)
    made.final["test"]["accuracy"] = np.array([0.9, 0.904])
    lost = contender("mine", [[1.0, np.inf], [1.0, 0.5]], kind="other")
    lost.final["test"]["accuracy"] = np.array([np.inf, 0.5])
    header, first, second = rows(results(made, lost))
    assert first[1] == "3.0e-08 +-1.0e-08" and second[1] == "diverged"
    assert "rounds to local_sgd (3.0e-08)" in header
    column = header.index("test accuracy")
    assert first[column] == "90.2 +-0.2%" and second[column] == "diverged"
