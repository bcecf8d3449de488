"""What meta-training is tuned on, and checkpoints are chosen by."""

from tasks.datasets.image_size import enlarged
from tasks.families.images.image_autoencoder import image_autoencoder
from tasks.families.images.image_mlp import image_mlp
from tasks.families.theory.coordinate_regression import coordinate_regression
from tasks.families.theory.matrix_quadratics import matrix_quadratics
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
    "matrix_quadratics_exact": SuiteEntry(
        make=lambda: matrix_quadratics(32, 20, noise=(1e-6, 1e-5), ranks=(1, 20), name="matrix_quadratics_exact"),
        description="Random quadratics of a 32 x 20 matrix, optimum of rank 1 to 20, hardly any noise",
        dataset="gaussian_noise",
        architecture="matrix_quadratic",
        num_params=640,
    ),
    "coordinate_regression_wide": SuiteEntry(
        make=lambda: coordinate_regression((64, 64), (2.0, 5.0), name="coordinate_regression_wide"),
        description="A less smooth function of the plane, tanh MLP 2-64-64-1, no noise",
        dataset="random_waves",
        architecture="tanh_coordinate_network",
        num_params=4_417,
    ),
}
