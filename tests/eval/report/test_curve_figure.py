"""The picture of a comparison's curves: its legend leaves the lines free, however many they are."""

import matplotlib.image
import numpy as np
import pytest

from eval.report.curve_figure import HEIGHT, MOST_INSIDE, draw_curves
from tests.eval.made_up import contender, results
from tests.eval.toy import TOY

FALLING = np.geomspace(2.0, 0.02, 20)[None]


@pytest.mark.parametrize("number", [1, MOST_INSIDE + 6])
def test_the_legend_of_many_stands_below_their_lines(tmp_path, number):
    everyone = [contender(f"baseline_{i}", FALLING * (1 + 0.1 * i)) for i in range(number)]
    draw_curves(results(*everyone, protocol=TOY), tmp_path / "curves.png")
    height = matplotlib.image.imread(tmp_path / "curves.png").shape[0] / 160
    assert (height > HEIGHT + 1) == (number > MOST_INSIDE)
