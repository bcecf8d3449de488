import jax
import numpy as np
import pytest

from tasks.families.images.image_mixer import Mixer, image_mixer
from tests.tasks.generated_data import noisy, num_params, random_images


def test_logits_are_the_written_out_formula():
    model = Mixer(2, 6, 2, 3, 5, 4, jax.numpy.tanh)
    images = np.random.default_rng(0).uniform(size=(1, 4, 4, 1)).astype(np.float32)
    params = noisy(jax.jit(model.init)(jax.random.key(0), images)["params"])

    def dense(name, x):
        return x @ params[name]["kernel"].astype(float) + params[name]["bias"]

    def norm(index, x):
        layer = params[f"LayerNorm_{index}"]
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]

    patches = images[0, :, :, 0].reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)
    h = dense("embed", patches)
    for block in range(2):
        tokens = dense(f"Dense_{4 * block + 1}", np.tanh(dense(f"Dense_{4 * block}", norm(2 * block, h).T)))
        h = h + tokens.T
        h = h + dense(f"Dense_{4 * block + 3}", np.tanh(dense(f"Dense_{4 * block + 2}", norm(2 * block + 1, h))))
    expected = dense("head", norm(4, h).mean(0))
    logits = jax.jit(model.apply)({"params": params}, images)
    np.testing.assert_allclose(np.asarray(logits)[0], expected, rtol=1e-4, atol=1e-5)


def test_number_of_parameters():
    def mlp(width, units):
        return 2 * width * units + width + units

    family = image_mixer(random_images((8, 8, 3)), 2, 32, 2, 16, 64)
    expected = (12 + 1) * 32 + 2 * (mlp(16, 16) + mlp(32, 64) + 4 * 32) + 2 * 32 + 33 * 10
    assert num_params(family) == expected


@pytest.mark.parametrize(
    "arguments, message", [({"patch_size": 3}, "patch_size=3"), ({"token_units": 0}, "token_units=0")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_mixer(random_images((8, 8, 1)), **arguments)
