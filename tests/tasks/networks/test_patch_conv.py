import jax
import numpy as np
import pytest

from tasks.networks.patch_conv import PatchConv


@pytest.mark.parametrize(
    "height, width, size, stride", [(8, 8, 3, 1), (8, 8, 3, 2), (7, 5, 3, 2), (6, 5, 1, 2), (5, 4, 2, 3)]
)
def test_equals_lax_convolution(height, width, size, stride):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    params = {
        "kernel": rng.normal(size=(size, size, 3, 4)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
    }

    @jax.jit
    def both(params, images):
        expected = jax.lax.conv_general_dilated(
            images, params["kernel"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return PatchConv(4, size, stride).apply({"params": params}, images), expected

    y, expected = both(params, images)
    np.testing.assert_allclose(y, np.asarray(expected) + params["bias"], rtol=1e-4, atol=1e-5)


def test_initial_kernel_is_lecun_normal_over_the_patch():
    params = jax.jit(PatchConv(512).init)(jax.random.key(0), np.zeros((1, 3, 3, 16), np.float32))["params"]
    # 73,728 draws: the standard error of the standard deviation is 0.3 %.
    np.testing.assert_allclose(params["kernel"].std(), (9 * 16) ** -0.5, rtol=0.02)
    assert (params["bias"] == 0).all()
