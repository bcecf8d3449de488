"""More to judge on, beside META_TEST and apart from it, as published tables refer to the cells of that suite. No
dataset of it occurs in META_TRAIN; where meta-training has seen the images or the network, the description says so.
"""

from tasks.families.equations.neural_ode import neural_ode
from tasks.families.equations.pinn_adversarial import pinn_adversarial
from tasks.families.equations.pit_heat import pit_heat
from tasks.families.images.barlow_twins import barlow_twins
from tasks.families.images.block_images import block_images
from tasks.families.images.ghost_norm_mlp import ghost_norm_mlp
from tasks.families.images.self_supervised import self_supervised
from tasks.families.images.width_mlp import width_mlp
from tasks.families.sequences.sparse_rnn import sparse_rnn
from tasks.families.theory.attention_svm import attention_svm
from tasks.families.theory.dynamic_signal import dynamic_signal
from tasks.families.theory.lazy_to_rich import lazy_to_rich
from tasks.families.theory.monge_map import monge_map
from tasks.suites.entry import SuiteEntry, fashion_mnist_8, omniglot_8, shakespeare_32

META_TEST_MORE: dict[str, SuiteEntry] = {
    "polynomial_lazy": SuiteEntry(
        make=lambda: lazy_to_rich(alpha=16.0, name="polynomial_lazy"),
        description="Quadratic polynomial, a network that stays near its start; reports the alignment of its weights",
        dataset="gaussian_polynomial",
        architecture="quadratic_units",
        num_params=1_536,
        paper="Kumar et al. 2024, arXiv 2310.06110",
    ),
    "polynomial_rich": SuiteEntry(
        make=lambda: lazy_to_rich(alpha=1.0, name="polynomial_rich"),
        description="The same where features must be learned",
        dataset="gaussian_polynomial",
        architecture="quadratic_units",
        num_params=1_536,
        paper="Kumar et al. 2024, arXiv 2310.06110",
    ),
    "attention_svm": SuiteEntry(
        make=attention_svm,
        description="Attend to the relevant token of five; reports the cosine to the max-margin solution",
        dataset="planted_tokens",
        architecture="softmax_attention",
        num_params=64,
        paper="Ataee Tarzanagh et al. 2023, arXiv 2308.16898",
    ),
    "dynamic_signal_cnn": SuiteEntry(
        make=lambda: dynamic_signal("cnn", name="dynamic_signal_cnn"),
        description="Signal in a random patch, one filter for all patches; reports accuracy and signal share",
        dataset="dynamic_signal",
        architecture="shared_filter",
        num_params=17,
        paper="Lahoti et al. 2024, arXiv 2403.15707",
    ),
    "dynamic_signal_local": SuiteEntry(
        make=lambda: dynamic_signal("local", name="dynamic_signal_local"),
        description="The same with a filter for each patch",
        dataset="dynamic_signal",
        architecture="local_filters",
        num_params=129,
        paper="Lahoti et al. 2024, arXiv 2403.15707",
    ),
    "dynamic_signal_mlp": SuiteEntry(
        make=lambda: dynamic_signal("mlp", name="dynamic_signal_mlp"),
        description="The same fully connected",
        dataset="dynamic_signal",
        architecture="soft_threshold_units",
        num_params=1_025,
        paper="Lahoti et al. 2024, arXiv 2403.15707",
    ),
    "monge_map": SuiteEntry(
        make=monge_map,
        description="Optimal-transport map in the plane by the Monge gap; reports the unexplained variance",
        dataset="convex_gradient_maps",
        architecture="transport_map",
        num_params=1_218,
        paper="Uscidda and Cuturi 2023, arXiv 2302.04953",
    ),
    "neural_ode": SuiteEntry(
        make=neural_ode,
        description="Two spirals separated by a neural ODE; reports accuracy and the solver's error",
        dataset="spirals",
        architecture="neural_ode",
        num_params=329,
        paper="Chen et al. 2018, arXiv 1806.07366",
    ),
    "neural_ode_local": SuiteEntry(
        make=lambda: neural_ode("local", name="neural_ode_local"),
        description="The same, the solver's error in one random step penalised",
        dataset="spirals",
        architecture="neural_ode",
        num_params=329,
        paper="Pal et al. 2023, arXiv 2303.02262",
    ),
    "neural_ode_global": SuiteEntry(
        make=lambda: neural_ode("global", name="neural_ode_global"),
        description="The same, the solver's error in all steps penalised",
        dataset="spirals",
        architecture="neural_ode",
        num_params=329,
        paper="Pal et al. 2021, arXiv 2105.03918",
    ),
    "pinn_adversarial": SuiteEntry(
        make=pinn_adversarial,
        description="Burgers' equation, points resampled by residual (network seen by lagg_any); reports relative L2",
        dataset="burgers_candidates",
        architecture="tanh_coordinate_network",
        num_params=2_241,
        paper="Tang et al. 2023, arXiv 2305.18702",
    ),
    "pit_heat": SuiteEntry(
        make=pit_heat,
        description="Heat equation for many initial conditions at once; reports the relative L2 error",
        dataset="heat_initial_conditions",
        architecture="physics_informed_transformer",
        num_params=6_625,
        paper="Dos Santos et al. 2023",
    ),
    "fmnist8_blocks": SuiteEntry(
        make=lambda: block_images(fashion_mnist_8(), name="fmnist8_blocks"),
        description="Fashion-MNIST beside a null block (images seen); reports the gradient's share on the null",
        dataset="fashion_mnist_blocks",
        architecture="mlp",
        num_params=4_458,
        paper="Shah et al. 2021, arXiv 2102.12781",
    ),
    "omniglot8_byol": SuiteEntry(
        make=lambda: self_supervised(omniglot_8(), "slow", name="omniglot8_byol"),
        description="Omniglot at 8x8 without labels, BYOL with a target among the parameters; reports collapse",
        dataset="omniglot_alphabets",
        architecture="siamese",
        num_params=13_408,
        paper="Grill et al. 2020, arXiv 2006.07733",
    ),
    "omniglot8_directpred": SuiteEntry(
        make=lambda: self_supervised(omniglot_8(), name="omniglot8_directpred", predictor="eigen"),
        description="Omniglot at 8x8 without labels, DirectPred from the batch's features; reports collapse",
        dataset="omniglot_alphabets",
        architecture="siamese",
        num_params=6_176,
        paper="Tian et al. 2021, arXiv 2102.06810",
    ),
    "omniglot8_barlow_twins": SuiteEntry(
        make=lambda: barlow_twins(omniglot_8(), name="omniglot8_barlow_twins"),
        description="Omniglot at 8x8 without labels, Barlow Twins; reports collapse",
        dataset="omniglot_alphabets",
        architecture="batch_normalised_encoder",
        num_params=6_176,
        paper="Zbontar et al. 2021, arXiv 2103.03230",
    ),
    "omniglot8_ghost_norm": SuiteEntry(
        make=lambda: ghost_norm_mlp(omniglot_8(), name="omniglot8_ghost_norm", num_classes=20),
        description="Alphabets of Omniglot at 8x8, MLP 64-32-32-20 normalised over ghost batches of 16",
        dataset="omniglot_alphabets",
        architecture="ghost_norm_mlp",
        num_params=3_860,
        paper="Hoffer et al. 2017, arXiv 1705.08741",
    ),
    "omniglot8_width128_mup": SuiteEntry(
        make=lambda: width_mlp(omniglot_8(), 128, "mup", name="omniglot8_width128_mup", num_classes=20),
        description="Alphabets of Omniglot at 8x8, two hidden layers of 128 in muP: the rate of width 32 should serve",
        dataset="omniglot_alphabets",
        architecture="width_mlp",
        num_params=27_412,
        paper="Yang et al. 2022, arXiv 2203.03466",
    ),
    "omniglot8_width128_standard": SuiteEntry(
        make=lambda: width_mlp(omniglot_8(), 128, "standard", name="omniglot8_width128_standard", num_classes=20),
        description="The same in the standard parametrisation",
        dataset="omniglot_alphabets",
        architecture="width_mlp",
        num_params=27_412,
        paper="Yang et al. 2022, arXiv 2203.03466",
    ),
    "shakespeare_sparse_lstm": SuiteEntry(
        make=lambda: sparse_rnn(shakespeare_32(), 65, hidden_size=48, name="shakespeare_sparse_lstm"),
        description="Characters of Tiny Shakespeare (65), LSTM of width 48 with a third of its weights",
        dataset="tiny_shakespeare",
        architecture="sparse_lstm",
        num_params=24_929,
        paper="Liu et al. 2021, arXiv 2101.09048",
    ),
}
