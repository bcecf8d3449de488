import numpy as np
import pytest

from tasks.datasets.fewer_examples import fewer_examples
from tests.tasks.generated_data import random_images


def test_the_first_of_train_and_all_of_the_rest():
    data = random_images((4, 4, 1))
    fewer = fewer_examples(data, 3)
    for leaf in ("image", "label"):
        np.testing.assert_array_equal(fewer["train"][leaf], data["train"][leaf][:3])
        assert fewer["test"][leaf] is data["test"][leaf]


@pytest.mark.parametrize("num_train", [0, 10**6])
def test_numbers_that_there_are_not(num_train):
    with pytest.raises(ValueError, match=f"num_train={num_train}"):
        fewer_examples(random_images((4, 4, 1)), num_train)
