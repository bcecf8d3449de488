"""What optimizers are judged on: datasets and architectures that META_TRAIN does not have."""

from tasks.families.equations.pinn_burgers import pinn_burgers
from tasks.families.equations.pinn_heat import pinn_heat
from tasks.families.equations.pit_burgers import pit_burgers
from tasks.families.equations.poisson_quadratic import poisson_quadratic
from tasks.families.images.hypernetwork import hypernetwork
from tasks.families.images.image_mixer import image_mixer
from tasks.families.images.image_resnet import image_resnet
from tasks.families.images.image_vit import image_vit
from tasks.families.images.self_supervised import self_supervised
from tasks.families.sequences.icl_regression import icl_regression
from tasks.families.sequences.modular_arithmetic import modular_arithmetic
from tasks.families.sequences.text_rnn import text_rnn
from tasks.families.theory.matrix_sensing import matrix_sensing
from tasks.families.theory.random_features import random_features
from tasks.families.theory.score_matching import score_matching
from tasks.families.theory.separable_logistic import separable_logistic
from tasks.families.theory.sparse_parity import sparse_parity
from tasks.families.theory.two_layer_linear import two_layer_linear
from tasks.families.theory.xor_clusters import xor_clusters
from tasks.suites.entry import SuiteEntry, omniglot_8, shakespeare_32

META_TEST: dict[str, SuiteEntry] = {
    "omniglot8_resnet": SuiteEntry(
        make=lambda: image_resnet(omniglot_8(), widths=(8, 16), name="omniglot8_resnet", num_classes=20),
        description="Alphabets of Omniglot at 8x8, ResNet with group normalisation",
        dataset="omniglot_alphabets",
        architecture="resnet",
        num_params=5_292,
    ),
    "omniglot8_vit": SuiteEntry(
        make=lambda: image_vit(omniglot_8(), hidden_size=16, depth=2, name="omniglot8_vit", num_classes=20),
        description="Alphabets of Omniglot at 8x8, vision transformer of two blocks",
        dataset="omniglot_alphabets",
        architecture="vit",
        num_params=5_060,
    ),
    "omniglot8_mixer": SuiteEntry(
        make=lambda: image_mixer(omniglot_8(), hidden_size=16, depth=2, name="omniglot8_mixer", num_classes=20),
        description="Alphabets of Omniglot at 8x8, MLP-Mixer of two blocks",
        dataset="omniglot_alphabets",
        architecture="mixer",
        num_params=5_924,
    ),
    "shakespeare_gru": SuiteEntry(
        make=lambda: text_rnn(shakespeare_32(), 65, "gru", 32, name="shakespeare_gru"),
        description="Characters of Tiny Shakespeare (65), GRU of width 32",
        dataset="tiny_shakespeare",
        architecture="gru",
        num_params=10_465,
    ),
    "shakespeare_lstm": SuiteEntry(
        make=lambda: text_rnn(shakespeare_32(), 65, "lstm", 32, name="shakespeare_lstm"),
        description="Characters of Tiny Shakespeare (65), LSTM of width 32",
        dataset="tiny_shakespeare",
        architecture="lstm",
        num_params=12_545,
    ),
    "omniglot8_hypernetwork": SuiteEntry(
        make=lambda: hypernetwork(omniglot_8(), name="omniglot8_hypernetwork", num_classes=20),
        description="Alphabets of Omniglot at 8x8, weights from a magnitude-invariant hypernetwork",
        dataset="omniglot_alphabets",
        architecture="hypernetwork",
        num_params=24_888,
    ),
    "omniglot8_hypernetwork_plain": SuiteEntry(
        make=lambda: hypernetwork(omniglot_8(), "plain", name="omniglot8_hypernetwork_plain", num_classes=20),
        description="The same with a plain hypernetwork",
        dataset="omniglot_alphabets",
        architecture="hypernetwork",
        num_params=23_492,
    ),
    "omniglot8_siamese": SuiteEntry(
        make=lambda: self_supervised(omniglot_8(), name="omniglot8_siamese"),
        description="Omniglot at 8x8 without labels, SimSiam; reports collapse",
        dataset="omniglot_alphabets",
        architecture="siamese",
        num_params=7_232,
    ),
    "xor_clusters": SuiteEntry(
        make=xor_clusters,
        description="Four Gaussian clusters labelled by XOR, 10 % flipped; reports clean test accuracy",
        dataset="xor_clusters",
        architecture="relu_fixed_output",
        num_params=2_560,
    ),
    "modular_arithmetic": SuiteEntry(
        make=modular_arithmetic,
        description="Addition modulo 59 from 40 % of the table (grokking)",
        dataset="modular_arithmetic",
        architecture="two_hot_network",
        num_params=10_800,
    ),
    "modular_arithmetic_stablemax": SuiteEntry(
        make=lambda: modular_arithmetic(stablemax=True, name="modular_arithmetic_stablemax"),
        description="The same with StableMax in place of softmax",
        dataset="modular_arithmetic",
        architecture="two_hot_network",
        num_params=10_800,
    ),
    "sparse_parity": SuiteEntry(
        make=sparse_parity,
        description="Parity of 4 of 30 bits",
        dataset="sparse_parity",
        architecture="sign_input_network",
        num_params=6_080,
    ),
    "icl_regression": SuiteEntry(
        make=icl_regression,
        description="In-context linear regression, one layer of linear attention; reports the gap to the optimum",
        dataset="gaussian_prompts",
        architecture="linear_attention",
        num_params=81,
    ),
    "matrix_sensing": SuiteEntry(
        make=matrix_sensing,
        description="Rank-2 matrix from linear measurements, symmetric factors; reports the recovery error",
        dataset="matrix_measurements",
        architecture="matrix_factors",
        num_params=40,
    ),
    "matrix_sensing_asymmetric": SuiteEntry(
        make=lambda: matrix_sensing(symmetric=False, name="matrix_sensing_asymmetric"),
        description="The same with two free factors",
        dataset="matrix_measurements",
        architecture="matrix_factors",
        num_params=80,
    ),
    "two_layer_linear": SuiteEntry(
        make=two_layer_linear,
        description="Two-layer linear network; reports the drift of its conserved quantity",
        dataset="linear_map",
        architecture="deep_linear",
        num_params=512,
    ),
    "separable_logistic": SuiteEntry(
        make=separable_logistic,
        description="Separable logistic regression; reports errors beside the loss",
        dataset="separable_gaussians",
        architecture="linear_classifier",
        num_params=32,
    ),
    "random_features": SuiteEntry(
        make=random_features,
        description="Ridgeless regression on 256 random features of a noisy teacher",
        dataset="noisy_teacher",
        architecture="random_features",
        num_params=256,
    ),
    "poisson_quadratic": SuiteEntry(
        make=poisson_quadratic,
        description="Poisson equation on a 16 x 16 grid as a quadratic; reports the residual",
        dataset="poisson_noise",
        architecture="five_point_laplacian",
        num_params=256,
    ),
    "score_matching": SuiteEntry(
        make=score_matching,
        description="Denoising score matching on mixtures of Gaussians in the plane",
        dataset="gaussian_mixtures",
        architecture="score_network",
        num_params=1_282,
    ),
    "pinn_burgers": SuiteEntry(
        make=pinn_burgers,
        description="Burgers' equation in one dimension (network seen by lagg_any); reports the relative L2 error",
        dataset="burgers_collocation",
        architecture="tanh_coordinate_network",
        num_params=3_297,
    ),
    "pinn_heat": SuiteEntry(
        make=pinn_heat,
        description="Heat equation in two dimensions (network seen by lagg_any); reports the relative L2 error",
        dataset="heat_collocation",
        architecture="tanh_coordinate_network",
        num_params=2_273,
    ),
    "pit_burgers": SuiteEntry(
        make=pit_burgers,
        description="Burgers' equation for many initial conditions at once; reports the relative L2 error",
        dataset="burgers_initial_conditions",
        architecture="physics_informed_transformer",
        num_params=6_017,
    ),
}
