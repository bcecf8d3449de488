"""What meta-training is tuned on, and checkpoints are chosen by."""

from tasks.datasets.fewer_examples import fewer_examples
from tasks.datasets.image_size import enlarged
from tasks.families.images.contrastive import contrastive
from tasks.families.images.image_autoencoder import image_autoencoder
from tasks.families.images.image_mlp import image_mlp
from tasks.families.sequences.waves_rnn import waves_rnn
from tasks.families.theory.coordinate_regression import coordinate_regression
from tasks.families.theory.matrix_quadratics import matrix_quadratics
from tasks.families.theory.tensor_factors import tensor_factors
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
    "fmnist8_mlp64x64_few": SuiteEntry(
        make=lambda: image_mlp(fewer_examples(fashion_mnist_8(), 1024), (64, 64), "fmnist8_mlp64x64_few"),
        description="Fashion-MNIST at 8x8, 1,024 training images, MLP 64-64-64-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=8_970,
    ),
    "fmnist8_contrastive_wide": SuiteEntry(
        make=lambda: contrastive(fashion_mnist_8(), (128,), 32, name="fmnist8_contrastive_wide"),
        description="Fashion-MNIST at 8x8 without labels, alignment and uniformity, MLP 64-128-32",
        dataset="fashion_mnist",
        architecture="contrastive_mlp",
        num_params=12_448,
        paper="Wang & Isola 2020, arXiv 2005.10242",
    ),
    "tensor_factors_wide": SuiteEntry(
        make=lambda: tensor_factors(20, 5, 8, name="tensor_factors_wide"),
        description="Completion of a 20 x 20 x 20 tensor of rank 5 by eight factors, no noise",
        dataset="tensor_entries",
        architecture="tensor_factors",
        num_params=480,
    ),
    "waves_rnn_wide": SuiteEntry(
        make=lambda: waves_rnn(48, num_waves=4, name="waves_rnn_wide"),
        description="The next value of a sum of four waves, Elman network of width 48, no noise",
        dataset="waves",
        architecture="elman_rnn",
        num_params=2_449,
    ),
}
