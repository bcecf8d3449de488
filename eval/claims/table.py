"""The claims, in the order of the table."""

from eval.claims.claim import Claim, at_equal, final_loss, final_minibatch_loss, grows
from eval.scores.network import Network
from eval.scores.spending import bytes_sent, gradients, seconds

SLOW_NOW_AND_THEN = Network(gradient_seconds=1.0, slow_down=0.05, recover=0.5)
"""Of the claims about late workers: those of a worker in eleven, ten times as slow."""
LOSSLESS = 0.98
"""A loss at most 2 % higher counts as lost in no way."""

LOSS = "final training loss"
BYTES, GRADIENTS = "training loss at equal bytes sent", "training loss at equal gradients"
SECONDS = "training loss at equal simulated seconds"


def _bytes(contender, protocol):
    return bytes_sent(contender)


def _seconds(contender, protocol):
    return seconds(contender, protocol, SLOW_NOW_AND_THEN)


def _loss(statement: str, paper: str, cell: str, own: str, rival: str, least: float = 1.0) -> Claim:
    return Claim(statement, paper, LOSS, (cell,), final_loss(cell, own, rival), least)


CLAIMS: tuple[Claim, ...] = (
    _loss("SlowMo over Local SGD", "Wang 2020, 1910.00643", "alike", "slowmo", "local_sgd"),
    _loss(
        "DiLoCo over averaging AdamW workers",
        "Douillard 2023, 2311.08105",
        "alike",
        "diloco_adamw",
        "local_adamw",
    ),
    Claim(
        "Local steps over one step a round",
        "Stich 2019, 1805.09767",
        BYTES,
        ("alike",),
        at_equal(_bytes, "alike", "local_sgd", "sgd"),
    ),
    Claim(
        "Post-local SGD generalizes no worse than synchronous SGD",
        "Lin 2020, 1808.07217",
        "final test loss",
        ("alike",),
        final_loss("alike", "post_local_sgd", "synchronous_sgd", "test"),
        LOSSLESS,
    ),
    Claim(
        "PALSGD over DiLoCo with fewer gradients",
        "Naganuma 2025, 2504.18454",
        GRADIENTS,
        ("alike",),
        at_equal(gradients, "alike", "palsgd", "diloco"),
    ),
    Claim(
        "Rounds that grow by the norm test over fixed ones",
        "Lau 2024, 2406.13936",
        GRADIENTS,
        ("longer",),
        at_equal(gradients, "longer", "norm_test", "local_sgd"),
    ),
    Claim(
        "QSR over its shortest rounds at equal steps",
        "Gu 2024, 2310.14423",
        "final test loss",
        ("shorter", "growing"),
        final_loss("growing", "decaying_qsr", "local_sgd", "test", rival_cell="shorter"),
    ),
    _loss("MuLoCo over DiLoCo, K = 16", "Therien 2025, 2505.23725", "many", "muloco", "diloco_adamw"),
    Claim(
        "MuLoCo's gain over DiLoCo grows with K (2 to 16)",
        "Therien 2025, 2505.23725",
        "ratio of the gains in final training loss",
        ("few", "many"),
        grows(final_loss("few", "muloco", "diloco_adamw"), final_loss("many", "muloco", "diloco_adamw")),
    ),
    _loss(
        "4 bits lose nothing against DiLoCo in full",
        "Douillard 2025, 2501.18512",
        "alike",
        "quantized_diloco",
        "diloco",
        least=LOSSLESS,
    ),
    _loss(
        "Error feedback over none, 2 bits",
        "Karimireddy 2019, 1901.09847",
        "alike",
        "linear_2bit",
        "linear_2bit_without_feedback",
    ),
    _loss(
        "Statistical over linear bins, 2 bits",
        "Therien 2025, 2505.23725",
        "alike",
        "quantized_diloco_2bit",
        "linear_2bit",
    ),
    Claim(
        "SparseLoCo over dense DiLoCo by bytes",
        "Sarfi 2025, 2508.15706",
        BYTES,
        ("alike",),
        at_equal(_bytes, "alike", "sparse_loco", "diloco_adamw"),
    ),
    _loss("SparseLoCo over dense DiLoCo by rounds", "Sarfi 2025, 2508.15706", "alike", "sparse_loco", "diloco_adamw"),
    Claim(
        "Streaming DiLoCo, half at once, loses nothing",
        "Douillard 2025, 2501.18512",
        LOSS,
        ("alike", "longer"),
        # Fragments every second round of 4 steps, and all of the model every 8 steps: the same gradients and bytes.
        final_loss("alike", "streaming_diloco", "diloco", rival_cell="longer"),
        LOSSLESS,
    ),
    _loss(
        "The fragment that moved most over taking turns",
        "Nutini 2017, 1712.08859",
        "alike",
        "greedy_fragments",
        "streaming_diloco",
    ),
    _loss("NoLoCo loses nothing against DiLoCo", "Kolehmainen 2025, 2506.10911", "alike", "noloco", "diloco", LOSSLESS),
    _loss("SNOO over its inner SGD", "2510.15830", "alike", "snoo", "synchronous_sgd"),
    _loss("Lookahead over its inner SGD", "Zhang 2019, 1907.08610", "alike", "lookahead", "synchronous_sgd"),
    _loss("GPA over its inner AdamW", "2512.17131", "alike", "gpa", "synchronous"),
    _loss("FedAvgM over FedAvg, different data", "Hsu 2019, 1909.06335", "different", "fedavgm", "local_sgd"),
    _loss("FedAdam over FedAvg, different data", "Reddi 2021, 2003.00295", "different", "fedadam", "local_sgd"),
    _loss("FedYogi over FedAvg, different data", "Reddi 2021, 2003.00295", "different", "fedyogi", "local_sgd"),
    _loss("FedProx over FedAvg, different data", "Li 2020, 1812.06127", "different", "fedprox", "local_sgd"),
    _loss("SCAFFOLD over FedAvg, different data", "Karimireddy 2020, 1910.06378", "different", "scaffold", "local_sgd"),
    _loss("FedDyn over FedAvg, different data", "Acar 2021, 2111.04263", "different", "feddyn", "local_sgd"),
    _loss("FedSpeed over FedAvg, different data", "Sun 2023, 2302.10429", "different", "fedspeed", "local_sgd"),
    _loss("FedSpeed over FedDyn, different data", "Sun 2023, 2302.10429", "different", "fedspeed", "feddyn"),
    _loss("Quasi-global over local momentum", "Lin 2021, 2102.04761", "ring", "qg_dsgdm", "dpsgd"),
    _loss("Quasi-global Adam over local Adam", "Lin 2021, 2102.04761", "ring", "qg_adam", "dpsgd_adam"),
    _loss(
        "Consensus control over one average",
        "Kong 2021, 2102.04828",
        "ring",
        "consensus_control",
        "dpsgd_without_momentum",
    ),
    Claim(
        "One-peer exponential graph over a ring",
        "Ying 2021, 2110.13363",
        BYTES,
        ("ring",),
        at_equal(_bytes, "ring", "one_peer_exponential", "dpsgd_without_momentum"),
    ),
    Claim(
        "Rounds without late workers over waiting",
        "McMahan 2017, 1602.05629",
        SECONDS,
        ("alike",),
        at_equal(_seconds, "alike", "local_sgd_without_late_workers", "local_sgd"),
    ),
    Claim(
        "A gradient code over waiting",
        "Tandon 2017, 1612.03301",
        SECONDS,
        ("alike",),
        at_equal(_seconds, "alike", "coded_data_parallel", "sgd"),
    ),
    Claim(
        "DIFF2 over DP-SGD at one budget of privacy",
        "Murata 2023, 2302.03884",
        "final loss on the workers' examples",
        ("private",),
        final_minibatch_loss("private", "diff2", "dp_sgd"),
    ),
)
