"""The commands of `python -m eval` and their flags."""

import dataclasses
from typing import Annotated

import tyro

from eval.scores.network import Network

Names = tyro.conf.UseAppendAction[tuple[str, ...]]
Checkpoints = Annotated[Names, tyro.conf.arg(metavar="PATH")]
References = Annotated[Names, tyro.conf.arg(metavar="REFERENCE")]


@dataclasses.dataclass(frozen=True)
class ProtocolFlags:
    """What every contender of every cell is given; the protocol's own values where not set."""

    num_rounds: int | None = None
    """Communication rounds of every run."""
    num_workers: int | None = None
    """Workers, K."""
    num_local_steps: int | None = None
    """Local steps between two rounds, H."""
    batch_size: int | None = None
    """Examples per worker and local step, B."""
    num_seeds: int | None = None
    """Final runs per contender."""
    seed: int | None = None
    """Root of all randomness."""
    schedule: str | None = None
    """Learning-rate schedule of everyone, learned optimizers included: constant, cosine, linear or wsd."""
    ema: float | None = None
    """Decay per round of an average of the parameters that is evaluated in their place."""
    tuning: str | None = None
    """full (27 settings for each tuned contender before its grid grows) or coarse (9)."""
    tuning_seeds: int | None = None
    """Runs per setting while tuning."""
    max_extensions: int | None = None
    """How often a grid may grow."""
    eval_every: int | None = None
    """Rounds between two points of a curve."""
    num_curve_examples: int | None = None
    """Training examples the curve is measured on."""
    diagnostics: str | None = None
    """What is recorded beside the losses, separated by commas: see python -m eval diagnostics."""


@dataclasses.dataclass(frozen=True)
class ParticipantFlags:
    """Who takes part."""

    checkpoint: Checkpoints = ()
    """Checkpoint file or pretrained name, or NAME=PATH; may be given several times."""
    baselines: str = "core"
    """Names and groups of baselines, separated by commas: core, compressed, gossip, heterogeneous, all,
    optimizers, targets, none, local_sgd, ..."""
    contender: References = ()
    """Another one beside them: a baseline with arguments, module:function or file.py:function, or NAME=REFERENCE; the
    function returns an eval Contender, an optax transform or a LocalAlgorithm. May be given several times."""
    tune_multiplier: bool = False
    """Tune a factor on the learned updates, and one on their anchors', with the budget of a baseline."""
    one_setting: Annotated[str, tyro.conf.arg(metavar="FILE")] = "shipped"
    """Calibrated settings (python -m eval calibrate): every baseline in it has a second row with that one setting; none
    for no such rows."""


ProtocolGroup = Annotated[ProtocolFlags, tyro.conf.arg(name="")]
ParticipantGroup = Annotated[ParticipantFlags, tyro.conf.arg(name="")]
NetworkGroup = Annotated[Network, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare optimizers on one task family."""

    protocol: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROTOCOL")] = "demo"
    """demo, fmnist8_k8_h4, or module:function that returns an EvalProtocol."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """In place of the protocol's: a family, DATASET:NETWORK such as my_letters:mlp128, a constructor such as
    image_mlp,dataset=my_letters, or file.py:function."""
    flags: ProtocolGroup = ProtocolFlags()
    participants: ParticipantGroup = ParticipantFlags()
    baselines_from: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Results file of the same protocol, or file of settings (python -m eval settings; shipped for those that come with
    the code), whose tuned baselines are used instead of tuning again."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with your data sets; default: the environment variable LEARNED_OPT_DATA."""
    network: NetworkGroup = Network()
    out_dir: str = "runs/eval"
    """Folder for results.json, table.md, curves.png and report.html."""
    overwrite: bool = False
    """Replace the results of an earlier comparison in out_dir."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """Compare optimizers on every task family of a suite."""

    suite: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SUITE...")]
    """meta_test, meta_valid, meta_train, all, families separated by commas, or references as for compare --task."""
    protocol: ProtocolGroup = ProtocolFlags()
    participants: ParticipantGroup = ParticipantFlags()
    baselines_from: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Run folder, or file of settings (python -m eval settings; shipped for those that come with the code), whose tuned
    baselines are used for the cells that it has."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with your data sets; default: the environment variable LEARNED_OPT_DATA."""
    run_dir: str | None = None
    """Run folder; runs/suite_SUITE by default. Run the same command again to go on, or elsewhere to help."""
    retry_failed: bool = False
    """Run cells again that failed before."""


@dataclasses.dataclass(frozen=True)
class AxisSweep:
    """Vary one thing, tune everyone anew at each of its values, and draw the curve."""

    axis: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AXIS")]
    """num_local_steps, num_workers, batch_size, num_rounds, width, depth, dirichlet_alpha, label_noise,
    gradient_noise, parameter_scale, or module:function that returns a SweepAxis."""
    protocol: ProtocolGroup = ProtocolFlags()
    participants: ParticipantGroup = ParticipantFlags()
    task: str = "fmnist8_mlp32"
    """Task family, as for compare; width and depth bring their own."""
    values: Annotated[str | None, tyro.conf.arg(metavar="V,V,...")] = None
    """Values in place of the default ones; multiples of the rounds for num_rounds."""
    baselines_from: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Run folder, or file of settings (python -m eval settings; shipped for those that come with the code), whose tuned
    baselines are used for the cells that it has."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with your data sets; default: the environment variable LEARNED_OPT_DATA."""
    run_dir: str | None = None
    """Run folder; runs/axis_AXIS by default."""
    retry_failed: bool = False
    """Run cells again that failed before."""


@dataclasses.dataclass(frozen=True)
class Zoo:
    """Compare every learned optimizer for one machine with tuned AdamW, NadamW, Muon and Schedule-Free AdamW."""

    suite: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SUITE...")] = ()
    """Suites or families, as for suite; seven small unseen families by default."""
    protocol: ProtocolGroup = ProtocolFlags()
    checkpoint: Checkpoints = ()
    """Checkpoint file beside the pretrained optimizers, or NAME=PATH; may be given several times."""
    weights: References = ()
    """Published weights, KIND:FILE or NAME=KIND:FILE, with a kind of learned_opt.import_weights; may be given several
    times."""
    long: str = "score_matching"
    """Family of the cell that lasts ten times the longest episode of the meta-trainings; none for no such cell."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with your data sets; default: the environment variable LEARNED_OPT_DATA."""
    run_dir: str = "runs/zoo"
    """Run folder, for zoo.md and the report; run the same command again to go on."""
    retry_failed: bool = False
    """Run cells again that failed before."""


@dataclasses.dataclass(frozen=True)
class Report:
    """One page from run folders, the same tables as CSV and Markdown beside it."""

    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of suites, axes or comparisons."""
    out_dir: str | None = None
    """Folder for report.html, report.md and tables/; the first run's by default."""
    network: NetworkGroup = Network()


@dataclasses.dataclass(frozen=True)
class Card:
    """The model card of a learned optimizer from run folders; a section "Notes" that it has stays."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Of the optimizer in the runs, and the pretrained one unless --checkpoint says otherwise."""
    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of suites, axes or comparisons."""
    checkpoint: str | None = None
    """Checkpoint file."""
    out: str | None = None
    """File to write; NAME.md by default."""


@dataclasses.dataclass(frozen=True)
class Calibrate:
    """One setting per baseline from the finished cells of a suite, for --one-setting."""

    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of suites, all under one protocol; of tasks that are not those it is to be used on."""
    out: str = "one_setting.json"
    """File to write; a calibration for another schedule that it holds stays."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Keep what baselines were tuned to in one small file, for --baselines-from."""

    run: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN...")]
    """Run folders of comparisons, suites and axes."""
    out: str = "tuned_settings.json"
    """File to write; settings for other protocols that it holds stay."""


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """List what --diagnostics can record."""


@dataclasses.dataclass(frozen=True)
class Claims:
    """Check what papers claim of the algorithms, each in its direction on a small embedded task."""

    run_dir: str = "runs/claims"
    """Folder for a comparison per cell and claims.md; finished cells are not run again."""
    cells: str = "all"
    """Cells to run, separated by commas; claims that need others are left out."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Train optimizers where messages are compressed, workers gossip, or some are late or absent."""

    checkpoint: Checkpoints = ()
    """Checkpoint file or pretrained name, or NAME=PATH; the two shipped ones for every task by default."""
    run_dir: str = "runs/conditions"
    """Folder for results.json, conditions.md and loss_against_bytes.svg."""
    num_rounds: int = 300
    """Communication rounds of every run."""
    num_seeds: int = 3
    """Final runs per optimizer and condition."""


@dataclasses.dataclass(frozen=True)
class Ood:
    """Accuracy on shifted images (rotated, noisy, blurred) against that on unshifted ones, over everyone's sweep."""

    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")] = "fmnist8_mlp32"
    """Family that classifies images; as for compare --task."""
    flags: ProtocolGroup = ProtocolFlags()
    checkpoint: Checkpoints = ()
    """Checkpoint file or pretrained name, whose sweep, like its anchor's, is that of a factor on its updates;
    lopt_generalist and lagg_any if none."""
    baselines: str = "sgd,adam"
    """Names and groups of baselines, separated by commas, each with its grid."""
    contender: References = ()
    """Another one beside them, as for compare."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with your data sets; default: the environment variable LEARNED_OPT_DATA."""
    run_dir: str = "runs/ood"
    """Folder for ood.md and ood.json."""


Command = (
    Compare | Suite | AxisSweep | Zoo | Report | Card | Calibrate | Settings | Diagnostics | Claims | Conditions | Ood
)

COMMANDS = {
    "compare": Compare,
    "suite": Suite,
    "axis": AxisSweep,
    "zoo": Zoo,
    "report": Report,
    "card": Card,
    "calibrate": Calibrate,
    "settings": Settings,
    "diagnostics": Diagnostics,
    "claims": Claims,
    "conditions": Conditions,
    "ood": Ood,
}
