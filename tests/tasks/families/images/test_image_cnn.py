import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.images.image_cnn import image_cnn
from tests.tasks.generated_data import noisy, num_params, random_images
from tests.tasks.networks.slow_convolution import convolve


@pytest.mark.parametrize(
    "image_shape, widths, count", [((32, 32, 3), (32, 64, 64), 56_970), ((8, 8, 1), (16, 32, 32), 14_378)]
)
def test_number_of_parameters(image_shape, widths, count):
    assert num_params(image_cnn(random_images(image_shape), widths)) == count


def test_loss_is_the_written_out_formula():
    data = random_images((5, 5, 2), n=3, num_classes=4)
    family = image_cnn(data, (3, 4), num_classes=4)
    task = family.task({}, data)
    params = noisy(jax.jit(task.init)(jax.random.key(0)))
    losses = []
    for image, label in zip(data["test"]["image"], data["test"]["label"], strict=True):
        h = image / 255
        for layer, stride in ((params["PatchConv_0"], 2), (params["PatchConv_1"], 1)):
            h = np.maximum(convolve(h, layer["kernel"].astype(float), layer["bias"].astype(float), stride), 0)
        logits = h.mean((0, 1)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    loss = jax.jit(task.loss)(params, jax.random.key(0), family.eval_batch(data, "test"))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_vmapped_over_workers_is_each_worker_alone():
    data = random_images((5, 5, 1))
    family = image_cnn(data, (3, 4))
    task = family.task({}, data)
    params = noisy(jax.jit(task.init)(jax.random.key(0)))
    workers = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    batch = family.eval_batch(data, "train")
    gradient = jax.jit(jax.grad(task.loss))
    together = jax.jit(jax.vmap(jax.grad(task.loss), (0, None, None)))(workers, jax.random.key(0), batch)
    for k in range(2):
        alone = gradient(jax.tree.map(lambda p, k=k: p[k], workers), jax.random.key(0), batch)
        jax.tree.map(lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-3, atol=1e-6), together, alone)


@pytest.mark.parametrize("widths, message", [((), r"widths=\(\)"), ((3, 0), r"widths=\(3, 0\)")])
def test_bad_arguments(widths, message):
    with pytest.raises(ValueError, match=message):
        image_cnn(random_images((4, 4, 1)), widths)
