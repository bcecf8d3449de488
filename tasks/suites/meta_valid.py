"""What meta-training is tuned on, and checkpoints are chosen by."""

from tasks.datasets.image_size import enlarged
from tasks.families.images.image_autoencoder import image_autoencoder
from tasks.families.images.image_mlp import image_mlp
from tasks.suites.entry import SuiteEntry, fashion_mnist_8

META_VALID: dict[str, SuiteEntry] = {
    "fmnist8_mlp128": SuiteEntry(
        make=lambda: image_mlp(fashion_mnist_8(), (128,), "fmnist8_mlp128"),
        description="Fashion-MNIST at 8x8, MLP 64-128-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=9_610,
    ),
    "fmnist8_autoencoder": SuiteEntry(
        make=lambda: image_autoencoder(fashion_mnist_8(), name="fmnist8_autoencoder"),
        description="Fashion-MNIST at 8x8, autoencoder 64-32-8-32-64; the loss is the squared error",
        dataset="fashion_mnist",
        architecture="autoencoder",
        num_params=4_744,
    ),
    "fmnist24_mlp128": SuiteEntry(
        make=lambda: image_mlp(enlarged(fashion_mnist_8(), 3), (128,), "fmnist24_mlp128"),
        description="Fashion-MNIST at 8x8 enlarged to 24x24, MLP 576-128-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=75_146,
    ),
}
