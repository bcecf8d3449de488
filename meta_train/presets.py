"""Recipes that `python -m meta_train PRESET` runs. A preset is a function that returns a configuration, and whose
docstring gives the command, the hardware, the wall time and the result to expect. One of your own is named by
module:function or file.py:function.
"""

from collections.abc import Callable

from meta_train.component import Component
from meta_train.config import MetaTrainConfig


def demo() -> MetaTrainConfig:
    """LAgg-A for 8x8 Fashion-MNIST in a minute, then compared with tuned baselines.

    Command: make demo (or python -m meta_train demo). Hardware: 2 CPU cores. Wall time: 2 minutes. Expected:
    over 300 rounds, seeds 0 to 4, tuned Local SGD's final training loss at rounds 80 to 82 (its anchor alone: 105),
    test loss 0.516 to 0.528 (anchor 0.524, tuned DiLoCo 0.525): ahead of its anchor in training, hardly on test data.
    """
    return MetaTrainConfig(
        preset="demo",
        run_dir="runs/demo",
        reuse_run_dir=True,
        batch_size=32,
        meta_steps=400,
        truncation_length=20,
        min_unroll_length=20,
        max_unroll_length=300,
        checkpoint_every=25,
        meta_loss_split="outer_valid",
        eval_protocol="demo",
    )


def lagg_fmnist8_k8_h4() -> MetaTrainConfig:
    """LAgg-A of the paper's size (K=8, H=4, B=128, up to 1,000 rounds) on 8x8 Fashion-MNIST.

    Command: python -m meta_train lagg_fmnist8_k8_h4 --meta-steps 1800. Hardware: 2 CPU cores. Wall time: about 1 s per
    meta-step, 34 minutes in all. Expected: training loss 0.463 (published Local SGD after 1,000 rounds) at round 111,
    0.417 (published DiLoCo) at round 244.
    """
    return MetaTrainConfig(preset="lagg_fmnist8_k8_h4", run_dir="runs/lagg_fmnist8_k8_h4", meta_steps=5000)


def lopt_fmnist8_k8_h4() -> MetaTrainConfig:
    """LOpt-A, which serves any number of workers, with the settings of lagg_fmnist8_k8_h4.

    Command: python -m meta_train lopt_fmnist8_k8_h4 --meta-steps 600 --meta-loss-split outer_valid. Hardware: 2 CPU
    cores. Wall time: 15 minutes on a shared machine. Expected: the shipped optimizer of that name, see eval/README.md,
    "Results".
    """
    return MetaTrainConfig(
        preset="lopt_fmnist8_k8_h4",
        run_dir="runs/lopt_fmnist8_k8_h4",
        optimizer="lopt_a,nominal=momentum",
        meta_steps=5000,
    )


def generalist() -> MetaTrainConfig:
    """LOpt-A for many architectures, K and H: half of eight components a meta-step, local Adam without momentum.

    Command: python -m meta_train generalist. Hardware: 2 CPU cores; each component is compiled on its own. Wall time:
    46 minutes for 1,012 of the 1,600 meta-steps on a shared machine, where lopt_generalist was stopped. Expected:
    eval/README.md, "Generalization". To change the mixture give --components TASK[,FIELD=VALUE]..., once for all,
    with names of tasks.suites.META_TRAIN.
    """
    return MetaTrainConfig(
        preset="generalist",
        run_dir="runs/generalist",
        optimizer="lopt_a,nominal=momentum",
        batch_size=32,
        local_optimizer="adam_b1_0,learning_rate=0.01",
        components=(
            Component("fmnist8_mlp32", name="mlp32"),
            Component("fmnist8_mlp32", name="mlp32_h1", num_local_steps=1),
            Component("fmnist8_mlp64x64", name="mlp64x64_h16", num_workers=4, num_local_steps=16),
            Component("fmnist8_mlp_varied", name="varied"),
            Component("fmnist8_mlp32_reparam", name="reparam", num_workers=4),
            Component("fmnist8_cnn", name="cnn", num_workers=4),
            Component("markov_transformer", name="transformer", num_workers=4, batch_size=8, max_unroll_length=200),
            Component("quadratics32", name="quadratics"),
        ),
        components_per_step=4,
        num_tasks=4,
        truncation_length=20,
        min_unroll_length=20,
        max_unroll_length=300,
        meta_loss_split="outer_valid",
        meta_steps=1600,
        warmup_steps=20,
    )


def adafac_generalist() -> MetaTrainConfig:
    """A single-machine optimizer for many architectures, anchored on Adam: half of seven components a meta-step.

    Command: python -m meta_train adafac_generalist. Hardware: 2 CPU cores. Wall time: 9 minutes on a shared machine.
    Expected: eval/README.md, "Generalization". With --optimizer adafac_mlp_lopt,hidden_size=4 (the published form) the
    meta-loss is 1.04 after 150 meta-steps, worse than a constant guess, where this one has 0.37.
    """
    return MetaTrainConfig(
        preset="adafac_generalist",
        run_dir="runs/adafac_generalist",
        optimizer="adafac_mlp_lopt,hidden_size=4,nominal=adam",
        num_workers=1,
        num_local_steps=1,
        batch_size=128,
        components=(
            Component("fmnist8_mlp32", name="mlp32"),
            Component("fmnist8_mlp32", name="mlp32_b32", batch_size=32),
            Component("fmnist8_mlp64x64", name="mlp64x64"),
            Component("fmnist8_mlp_varied", name="varied"),
            Component("fmnist8_cnn", name="cnn"),
            Component("markov_transformer", name="transformer", batch_size=16, max_unroll_length=300),
            Component("quadratics32", name="quadratics"),
        ),
        components_per_step=4,
        num_tasks=4,
        truncation_length=20,
        min_unroll_length=20,
        max_unroll_length=1000,
        meta_loss_split="outer_valid",
        meta_steps=800,
        warmup_steps=20,
    )


def celo2_small() -> MetaTrainConfig:
    """Celo2 for one machine by the recipe of its paper (Moudgil et al. 2026, arXiv 2602.19142) on embedded data.

    Four components of 8 antithetic pairs, a parameter scale in 1e-3..1e3 for each task, sigma 0.01, truncations of 50,
    episodes of 100 to 2,000 updates, training loss. The paper has MNIST, Fashion-MNIST, CIFAR-10 and SVHN, one MLP, and
    100,000 meta-steps at a constant rate of 5e-5; of those datasets only Fashion-MNIST is embedded, so that the tasks
    on it differ instead, and a few hundredths of the meta-steps take a rate that is higher and decays.

    Command: python -m meta_train celo2_small. Hardware: 2 CPU cores. Wall time: not measured in whole; a meta-step took
    0.6 s on one core of a shared machine, over five of them, after a minute of compiling. Expected: not known. The one
    run so far ended at meta-step 249 for want of a core: meta-loss 0.96 over its first 40 meta-steps, 0.80 over 201 to
    240, at a signal-to-noise ratio of 1.0, which is noise. Nothing of it is shipped.
    """
    scaled = "meta_train.scaled_family:scaled,family="
    return MetaTrainConfig(
        preset="celo2_small",
        run_dir="runs/celo2_small",
        optimizer="celo2",
        num_workers=1,
        num_local_steps=1,
        batch_size=64,
        components=(
            Component(f"{scaled}fmnist8_mlp32", name="mlp32"),
            Component(f"{scaled}fmnist8_mlp32_noise", name="noise"),
            Component(f"{scaled}fmnist8_mlp_varied", name="varied"),
            Component(f"{scaled}teacher_student", name="teacher"),
        ),
        sigma=0.01,
        truncation_length=50,
        min_unroll_length=100,
        max_unroll_length=2000,
        meta_steps=3000,
        warmup_steps=20,
        meta_learning_rate=1e-3,
        final_meta_learning_rate=1e-4,
    )


PRESETS: dict[str, Callable[[], MetaTrainConfig]] = {
    preset.__name__: preset
    for preset in (demo, lagg_fmnist8_k8_h4, lopt_fmnist8_k8_h4, generalist, adafac_generalist, celo2_small)
}
