"""Adam's tuned learning rate for every family of the suites, and the margin by which 200 steps beat a constant guess.

The learning rate is the best of 1e-3, 3e-3, 1e-2, 3e-2 and 1e-1 on the loss of the last 50 of 200 minibatches of 32;
the margin is about two thirds of the improvement that was reached.
"""

from typing import NamedTuple


class AdamSetting(NamedTuple):
    """`margin` m: the loss falls below (1 - m) times that of the constant guess."""

    learning_rate: float
    margin: float


ADAM = {
    "fmnist8_mlp32": AdamSetting(0.03, 0.44),
    "fmnist8_mlp64x64": AdamSetting(0.01, 0.44),
    "fmnist8_mlp_varied": AdamSetting(0.01, 0.44),
    "fmnist8_mlp32_reparam": AdamSetting(0.01, 0.43),
    "fmnist8_mlp32_noise": AdamSetting(0.01, 0.43),
    "fmnist8_cnn": AdamSetting(0.03, 0.39),
    "markov_transformer": AdamSetting(0.03, 0.24),
    "quadratics32": AdamSetting(0.03, 0.66),
    "fmnist8_mlp32_scale": AdamSetting(0.1, 0.1),
    "fmnist16_mlp64": AdamSetting(0.01, 0.45),
    "teacher_student": AdamSetting(0.003, 0.56),
    "teacher_student_wide": AdamSetting(0.003, 0.55),
    "quadratics32_exact": AdamSetting(0.1, 0.66),
    "matrix_quadratics": AdamSetting(0.1, 0.66),
    "coordinate_regression": AdamSetting(0.03, 0.63),
    "matrix_quadratics_exact": AdamSetting(0.03, 0.66),
    "coordinate_regression_wide": AdamSetting(0.03, 0.56),
    "fmnist24_mlp128": AdamSetting(0.01, 0.45),
    "fmnist28_mlp512x512": AdamSetting(0.001, 0.49),
    "omniglot28_vit": AdamSetting(0.003, 0.01),
    "shakespeare_transformer": AdamSetting(0.003, 0.19),
    "shakespeare_lstm128": AdamSetting(0.03, 0.28),
    "cifar10_resnet": AdamSetting(0.001, 0.11),
    "fmnist8_mlp128": AdamSetting(0.01, 0.45),
    "fmnist8_autoencoder": AdamSetting(0.01, 0.51),
    "omniglot8_resnet": AdamSetting(0.01, 0.09),
    "omniglot8_vit": AdamSetting(0.003, 0.12),
    "omniglot8_mixer": AdamSetting(0.01, 0.15),
    "shakespeare_gru": AdamSetting(0.03, 0.24),
    "shakespeare_lstm": AdamSetting(0.03, 0.23),
    "omniglot8_hypernetwork": AdamSetting(0.003, 0.1),
    "omniglot8_hypernetwork_plain": AdamSetting(0.03, 0.1),
    "omniglot8_siamese": AdamSetting(0.03, 0.42),
    "xor_clusters": AdamSetting(0.1, 0.66),
    "modular_arithmetic": AdamSetting(0.03, 0.12),
    "modular_arithmetic_stablemax": AdamSetting(0.03, 0.12),
    "sparse_parity": AdamSetting(0.01, 0.59),
    "icl_regression": AdamSetting(0.01, 0.36),
    "matrix_sensing": AdamSetting(0.03, 0.66),
    "matrix_sensing_asymmetric": AdamSetting(0.03, 0.66),
    "two_layer_linear": AdamSetting(0.01, 0.66),
    "separable_logistic": AdamSetting(0.1, 0.64),
    "random_features": AdamSetting(0.1, 0.64),
    "poisson_quadratic": AdamSetting(0.01, 0.66),
    "score_matching": AdamSetting(0.01, 0.41),
    "pinn_burgers": AdamSetting(0.01, 0.49),
    "pinn_heat": AdamSetting(0.03, 0.64),
    "pit_burgers": AdamSetting(0.003, 0.35),
    "fmnist28_mlp128x128": AdamSetting(0.003, 0.48),
    "cifar10_cnn": AdamSetting(0.003, 0.1),
    "polynomial_lazy": AdamSetting(0.01, 0.63),
    "polynomial_rich": AdamSetting(0.03, 0.66),
    "attention_svm": AdamSetting(0.1, 0.61),
    "dynamic_signal_cnn": AdamSetting(0.1, 0.55),
    "dynamic_signal_local": AdamSetting(0.1, 0.64),
    "dynamic_signal_mlp": AdamSetting(0.1, 0.66),
    "monge_map": AdamSetting(0.003, 0.56),
    "neural_ode": AdamSetting(0.03, 0.66),
    "neural_ode_local": AdamSetting(0.03, 0.65),
    "neural_ode_global": AdamSetting(0.03, 0.65),
    "pinn_adversarial": AdamSetting(0.01, 0.47),
    "pit_heat": AdamSetting(0.01, 0.56),
    "fmnist8_blocks": AdamSetting(0.01, 0.41),
    "omniglot8_byol": AdamSetting(0.03, 0.41),
    "omniglot8_directpred": AdamSetting(0.03, 0.6),
    "omniglot8_barlow_twins": AdamSetting(0.03, 0.45),
    "omniglot8_ghost_norm": AdamSetting(0.01, 0.19),
    "omniglot8_width128_mup": AdamSetting(0.03, 0.2),
    "omniglot8_width128_standard": AdamSetting(0.01, 0.21),
    "shakespeare_sparse_lstm": AdamSetting(0.03, 0.24),
}
