"""What optimizers are meta-trained on. No dataset and no architecture of META_TEST occurs here."""

from tasks.augmentation import with_label_noise, with_reduced_batches, with_reparametrisation
from tasks.base import TaskFamily
from tasks.datasets.fewer_examples import fewer_examples
from tasks.datasets.image_size import enlarged
from tasks.datasets.markov_text import markov_chain, markov_text
from tasks.families.drawn.equation.sampled_equation import sampled_equation
from tasks.families.drawn.interpolation.sampled_interpolation import sampled_interpolation
from tasks.families.drawn.network.sampled_network import sampled_network
from tasks.families.drawn.objective.sampled_objective import sampled_objective
from tasks.families.drawn.sequence.sampled_sequence import sampled_sequence
from tasks.families.images.contrastive import contrastive
from tasks.families.images.image_cnn import image_cnn
from tasks.families.images.image_mlp import image_mlp
from tasks.families.sequences.text_transformer import text_transformer
from tasks.families.sequences.waves_rnn import waves_rnn
from tasks.families.theory.coordinate_regression import coordinate_regression
from tasks.families.theory.matrix_quadratics import matrix_quadratics
from tasks.families.theory.quadratics import quadratics
from tasks.families.theory.teacher_student import teacher_student
from tasks.families.theory.tensor_factors import tensor_factors
from tasks.networks.variants import Variants
from tasks.suites.entry import SuiteEntry, fashion_mnist_8

VARIED = Variants(activations=("relu", "tanh", "gelu"), init_scale=(0.5, 2.0))


def make_mlp32() -> TaskFamily:
    """The family that several others are made of."""
    return image_mlp(fashion_mnist_8(), (32,), "fmnist8_mlp32")


META_TRAIN: dict[str, SuiteEntry] = {
    "fmnist8_mlp32": SuiteEntry(
        make=make_mlp32,
        description="Fashion-MNIST at 8x8, MLP 64-32-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
    "fmnist8_mlp64x64": SuiteEntry(
        make=lambda: image_mlp(fashion_mnist_8(), (64, 64), "fmnist8_mlp64x64"),
        description="Fashion-MNIST at 8x8, MLP 64-64-64-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=8_970,
    ),
    "fmnist8_mlp_varied": SuiteEntry(
        make=lambda: with_reduced_batches(
            image_mlp(fashion_mnist_8(), (32, 32), "fmnist8_mlp_varied", variants=VARIED), max_halvings=3
        ),
        description="Fashion-MNIST at 8x8, MLP 64-32-32-10 with sampled activation, initial scale and batch size",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=3_466,
    ),
    "fmnist8_mlp32_reparam": SuiteEntry(
        make=lambda: with_reparametrisation(make_mlp32(), (0.1, 10.0), per_tensor=True),
        description="fmnist8_mlp32 with every tensor divided by a scale, log-uniform in [0.1, 10]",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
    "fmnist8_mlp32_noise": SuiteEntry(
        make=lambda: with_label_noise(make_mlp32(), (0.0, 0.5)),
        description="fmnist8_mlp32 with up to half of the training labels drawn anew",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
    "fmnist8_cnn": SuiteEntry(
        make=lambda: image_cnn(fashion_mnist_8(), (8, 16, 16), "fmnist8_cnn"),
        description="Fashion-MNIST at 8x8, three 3x3 convolutions of 8, 16 and 16 channels",
        dataset="fashion_mnist",
        architecture="cnn",
        num_params=3_738,
    ),
    "markov_transformer": SuiteEntry(
        make=lambda: text_transformer(
            markov_text(markov_chain()), 32, hidden_size=16, depth=1, name="markov_transformer"
        ),
        description="Text of an order-2 Markov chain over 32 symbols, one-block decoder of width 16",
        dataset="markov_text",
        architecture="decoder_transformer",
        num_params=4_800,
    ),
    "quadratics32": SuiteEntry(
        make=lambda: quadratics(32, (0.5, 2.0), name="quadratics32"),
        description="Random quadratics in 32 dimensions, condition numbers 6 to 1,000, noisy gradients",
        dataset="gaussian_noise",
        architecture="quadratic",
        num_params=32,
    ),
    "fmnist8_mlp32_scale": SuiteEntry(
        make=lambda: with_reparametrisation(make_mlp32(), (1e-3, 1e3)),
        description="fmnist8_mlp32 with all of its tensors divided by one scale, log-uniform in [1e-3, 1e3]",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
    "fmnist16_mlp64": SuiteEntry(
        make=lambda: image_mlp(enlarged(fashion_mnist_8(), 2), (64,), "fmnist16_mlp64"),
        description="Fashion-MNIST at 8x8 enlarged to 16x16, MLP 256-64-10",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=17_098,
    ),
    "teacher_student": SuiteEntry(
        make=teacher_student,
        description="Regression on a random teacher network, little to much noise",
        dataset="random_teacher",
        architecture="relu_regression",
        num_params=2_372,
    ),
    "teacher_student_wide": SuiteEntry(
        make=lambda: teacher_student(64, 32, 128, noise=(1e-3, 0.05), name="teacher_student_wide"),
        description="The same with 64 inputs, 128 student units and little noise",
        dataset="random_teacher",
        architecture="relu_regression",
        num_params=8_836,
    ),
    "quadratics32_exact": SuiteEntry(
        make=lambda: quadratics(32, (0.5, 2.0), noise_floor=1e-6, name="quadratics32_exact"),
        description="quadratics32 with hardly any noise",
        dataset="gaussian_noise",
        architecture="quadratic",
        num_params=32,
    ),
    "matrix_quadratics": SuiteEntry(
        make=matrix_quadratics,
        description="Random quadratics of a 24 x 12 matrix, optimum of rank 1 to 12, little to much noise",
        dataset="gaussian_noise",
        architecture="matrix_quadratic",
        num_params=288,
    ),
    "coordinate_regression": SuiteEntry(
        make=coordinate_regression,
        description="A random smooth function of the plane, tanh MLP 2-32-32-1, no noise",
        dataset="random_waves",
        architecture="tanh_coordinate_network",
        num_params=1_185,
    ),
    "fmnist8_mlp32_few": SuiteEntry(
        make=lambda: image_mlp(fewer_examples(fashion_mnist_8(), 256), (32,), "fmnist8_mlp32_few"),
        description="fmnist8_mlp32 with 256 training images, all of which it can fit",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=2_410,
    ),
    "fmnist8_linear": SuiteEntry(
        make=lambda: image_mlp(fashion_mnist_8(), (), "fmnist8_linear"),
        description="Fashion-MNIST at 8x8, softmax regression",
        dataset="fashion_mnist",
        architecture="softmax_regression",
        num_params=650,
    ),
    "fmnist8_contrastive": SuiteEntry(
        make=lambda: contrastive(fashion_mnist_8(), name="fmnist8_contrastive"),
        description="Fashion-MNIST at 8x8 without labels, alignment and uniformity of the features of an MLP",
        dataset="fashion_mnist",
        architecture="contrastive_mlp",
        num_params=5_216,
        paper="Wang & Isola 2020, arXiv 2005.10242",
    ),
    "tensor_factors": SuiteEntry(
        make=tensor_factors,
        description="Completion of a 12 x 12 x 12 tensor of rank 3 by five factors, no noise",
        dataset="tensor_entries",
        architecture="tensor_factors",
        num_params=180,
    ),
    "waves_rnn": SuiteEntry(
        make=waves_rnn,
        description="The next value of a sum of three waves, Elman network of width 24, no noise",
        dataset="waves",
        architecture="elman_rnn",
        num_params=649,
    ),
    "sampled_interpolation": SuiteEntry(
        make=sampled_interpolation,
        description="Few examples, fitted without end, all of it drawn: 'sampled_interpolation,seed=3' for another",
        dataset="sampled_separable",
        architecture="sampled",
        num_params=288,
        paper="Soudry et al. 2018, arXiv 1710.10345",
    ),
    "sampled_network": SuiteEntry(
        make=sampled_network,
        description="A problem whose inputs, network, target and loss are drawn: 'sampled_network,seed=3' for another",
        dataset="sampled",
        architecture="sampled",
        num_params=2_532,
        paper="Metz et al. 2022, arXiv 2211.09760",
    ),
    "sampled_sequence": SuiteEntry(
        make=sampled_sequence,
        description="A problem on sequences or tables of which all is drawn: 'sampled_sequence,seed=3' for another",
        dataset="sampled",
        architecture="sampled",
        num_params=6_724,
        paper="Metz et al. 2022, arXiv 2211.09760",
    ),
    "sampled_objective": SuiteEntry(
        make=sampled_objective,
        description="A problem whose objective is drawn, of twenty kinds: 'sampled_objective,seed=3' for another",
        dataset="sampled_objectives",
        architecture="sampled",
        num_params=6_304,
    ),
    "sampled_equation": SuiteEntry(
        make=sampled_equation,
        description="A differential equation with a known solution, drawn as a whole: 'sampled_equation,seed=3'",
        dataset="sampled",
        architecture="sampled",
        num_params=593,
        paper="Raissi et al. 2019, JCP 378",
    ),
}
