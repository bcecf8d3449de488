import jax
import numpy as np
import pytest

from tasks.families.images.image_resnet import ResNet, image_resnet
from tests.tasks.generated_data import noisy, num_params, random_images
from tests.tasks.networks.slow_convolution import convolve


def group_norm(h, num_groups, layer):
    """Each group of channels of one image to mean 0 and variance 1, over pixels and the group's channels."""
    groups = np.split(h, num_groups, axis=-1)
    h = np.concatenate([(g - g.mean()) / np.sqrt(g.var() + 1e-6) for g in groups], axis=-1)
    return h * layer["scale"] + layer["bias"]


def test_logits_are_the_written_out_formula():
    data = random_images((6, 6, 2), n=2)
    family = image_resnet(data, (4, 6), num_groups=2)
    params = noisy(jax.jit(family.task({}, data).init)(jax.random.key(0)))
    order = iter(range(100))

    def conv(h, stride):
        i = next(order)
        kernel = params[f"PatchConv_{i}"]["kernel"].astype(float)
        y = convolve(h, kernel, np.zeros(kernel.shape[-1]), stride)
        return group_norm(y, 2, params[f"GroupNorm_{i}"])

    def relu(h):
        return np.maximum(h, 0)

    image = data["test"]["image"][0] / 255
    h = relu(conv(image, 1))
    h = relu(h + conv(relu(conv(h, 1)), 1))
    branch = conv(relu(conv(h, 2)), 1)
    h = relu(conv(h, 2) + branch)
    expected = h.mean((0, 1)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    model = ResNet((4, 6), 1, 2, 10, jax.nn.relu)
    logits = jax.jit(model.apply)({"params": params}, data["test"]["image"][:1] / np.float32(255))
    np.testing.assert_allclose(np.asarray(logits)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels, widths, blocks", [(1, (16, 32), 1), (3, (16, 32, 64), 2)])
def test_number_of_parameters(channels, widths, blocks):
    def conv(n_in, n_out, size):
        return size * size * n_in * n_out + 2 * n_out

    count, n_in = conv(channels, widths[0], 3), widths[0]
    for width in widths:
        for _ in range(blocks):
            count += conv(n_in, width, 3) + conv(width, width, 3) + (conv(n_in, width, 1) if n_in != width else 0)
            n_in = width
    count += n_in * 10 + 10
    assert num_params(image_resnet(random_images((8, 8, channels)), widths, blocks)) == count


@pytest.mark.parametrize(
    "arguments, message",
    [({"widths": ()}, r"widths=\(\)"), ({"num_groups": 3}, "num_groups=3"), ({"blocks_per_stage": 0}, "=0")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_resnet(random_images((4, 4, 1)), **arguments)
