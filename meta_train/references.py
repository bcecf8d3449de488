"""What the references of a configuration stand for: the optimizer, the tasks, the local optimizers, the estimator and
the protocol, each a name of a table, `module:function` or `path/to/file.py:function`, with arguments.

A learned optimizer or task families made in Python may be given in their place (`Given`); a configuration then records
their names and arguments, and whoever resumes the run gives them again.
"""

import dataclasses
import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optax

from eval.protocol import EvalProtocol, make_protocol
from eval.task_families import FAMILY_TABLE, check_named, written_out
from learned_opt.algorithm_table import SERVERS
from learned_opt.architectures import ARCHITECTURES
from learned_opt.argument_checks import check_learned_optimizer
from learned_opt.base import LearnedOptimizer
from learned_opt.names import hint, parse, resolve
from learned_opt.optimizers import LOCAL_OPTIMIZERS, check_not_ambiguous
from learned_opt.user_code import failure_in_user_code
from meta_train.component import Component
from meta_train.config import MIXTURES, MetaTrainConfig
from meta_train.estimators import ESTIMATORS
from meta_train.estimators.base import Estimator
from tasks.base import TaskFamily
from tasks.check import check_family, check_is_family
from tasks.suites import FAMILIES

T = TypeVar("T")


class Given(NamedTuple):
    """What was made in Python rather than named.

    Attributes:
      lopt: the learned optimizer, in place of what `optimizer` names.
      families: task families by the names that `task` and components use for them.
    """

    lopt: LearnedOptimizer | None = None
    families: Mapping[str, TaskFamily] = {}


NOTHING = Given()


def check_given(given: Given) -> Given:
    """What was made in Python, checked before anything else looks at it.

    Raises:
      ValueError: no learned optimizer, one that could not be saved, or no dict of task families.
    """
    if given.lopt is not None:
        check_learned_optimizer(given.lopt, "lopt")
    if not isinstance(given.families, Mapping):
        raise ValueError(f"families={str(given.families)[:60]}: use a dict, {{'mine': family}} for task='mine'")
    for name, family in given.families.items():
        check_is_family(family, f"families[{name!r}]")
    return given


EXPERTS: dict[str, Callable[..., Any]] = LOCAL_OPTIMIZERS | {name: entry.function for name, entry in SERVERS.items()}
"""What a learned optimizer may imitate, by name."""


def make(reference: str, table: Mapping[str, Callable[..., Any]], what: str, kind: type[T], **more: Any) -> T:
    """What the function that a reference names returns.

    Args:
      reference: see `learned_opt.names`.
      table: functions by name.
      what: what is named, for errors: the field of the configuration.
      kind: what the function must return.
      **more: arguments it is given if it takes them and the reference does not set them.

    Raises:
      ValueError: nothing of that name, an argument it does not take or lacks, an error in it (of a user's function with
        the line where it happened), or a result of another type.
    """
    function = resolve(reference, table, what)
    parameters = inspect.signature(function).parameters
    set_already = function.keywords if isinstance(function, functools.partial) else {}
    more = {name: value for name, value in more.items() if name in parameters and name not in set_already}
    is_own = parse(reference).target not in table
    try:
        made = function(**more)
    except Exception as error:
        if not is_own and not isinstance(error, ValueError | TypeError):
            raise
        failure = failure_in_user_code(error) if is_own else None
        place = f"{failure.place}: " if failure else ""
        raise ValueError(f"{what}: {reference!r}: {place}{_one_line(error, is_own)}") from error
    if not isinstance(made, kind):
        raise ValueError(f"{what}: {reference!r} returned {type(made).__name__}: return a {kind.__name__}")
    return made


def own_architecture(lopt: LearnedOptimizer) -> dict[str, Callable[..., LearnedOptimizer]]:
    """What `learned_opt.save` and `load_checkpoint` need to know of an optimizer that is not the library's: a function
    by its name, with the arguments of its config; empty for the library's own."""
    name = lopt.config["architecture"]
    return (
        {}
        if name in ARCHITECTURES
        else {name: lambda **arguments: lopt._replace(config={"architecture": name, **arguments})}
    )


def reference_of(lopt: LearnedOptimizer) -> str:
    """The reference that names a learned optimizer by its `config`: NAME,argument=value..."""
    arguments = dict(lopt.config)
    name = arguments.pop("architecture", None)
    return ",".join([str(name), *(f"{field}={value!r}" for field, value in arguments.items())])


def find_optimizer(config: MetaTrainConfig, given: Given = NOTHING) -> LearnedOptimizer:
    """The learned optimizer of a configuration.

    Raises:
      ValueError: as in `make`, or one whose `config` does not say how to build it again.
    """
    if given.lopt is not None:
        lopt, source = given.lopt, "lopt"
    else:
        lopt = make(config.optimizer, ARCHITECTURES, "optimizer", LearnedOptimizer, num_workers=config.num_workers)
        source = f"optimizer: {config.optimizer!r}"
    check_learned_optimizer(lopt, source)
    return lopt


def checkpoint_reference(config: MetaTrainConfig, path: str | Path) -> str:
    """By which `eval` reads an optimizer that the configuration trained; a user's own comes with its function."""
    function = parse(config.optimizer).target
    return f"{path},architecture={function}" if ":" in function else str(path)


def find_family(reference: str, given: Given = NOTHING) -> TaskFamily:
    """The task family of a reference (see `eval.task_families`), with its data loaded; one of a user's is checked.

    Raises:
      ValueError: as in `make`, or a family whose data or functions are not as they should be.
      FileNotFoundError: its dataset was not found; the message says how to get it.
      RuntimeError: one of its own functions fails.
    """
    if reference in FAMILIES and reference not in given.families:
        return FAMILIES[reference].make()
    family = given.families.get(reference) or make(written_out(reference), FAMILY_TABLE, "task", TaskFamily)
    check_family(family)
    return family


def check_task(reference: str, given: Given = NOTHING) -> None:
    """ValueError unless the reference names a function of tasks; builds none and loads no data."""
    if reference not in given.families:
        if given.families and reference not in FAMILIES and "did you mean" in (near := hint(reference, given.families)):
            raise ValueError(f"task={reference!r}: {near}, which are given")
        check_named(reference)
        resolve(written_out(reference), FAMILY_TABLE, "task")


def find_local_optimizer(reference: str) -> optax.GradientTransformation:
    """The optax transform that workers run.

    Raises:
      ValueError: as in `make`, or a learning rate that is not a positive finite number.
    """
    check_not_ambiguous(reference)
    rate = parse(reference).arguments.get("learning_rate", 1)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ValueError(f"local_optimizer={reference!r}: use a positive finite learning_rate")
    return make(reference, LOCAL_OPTIMIZERS, "local_optimizer", optax.GradientTransformation)  # pyright: ignore[reportArgumentType]


def find_expert(reference: str) -> optax.GradientTransformation:
    """The hand-made optimizer that a learned one imitates: a local optimizer, a server optimizer, or a function of a
    user's.

    Raises:
      ValueError: as in `make`.
    """
    return make(reference, EXPERTS, "expert", optax.GradientTransformation)  # pyright: ignore[reportArgumentType]


def find_estimator(reference: str) -> Estimator:
    """The method of estimating meta-gradients; errors as in `make`."""
    return make(reference, ESTIMATORS, "estimator", Estimator)


def find_protocol(reference: str) -> EvalProtocol:
    """The protocol that the result is evaluated under.

    Raises:
      ValueError: nothing of that name, a wrong field, or a function that returns something else.
    """
    try:
        return make_protocol(reference)
    except ValueError as error:
        raise ValueError(f"eval_protocol: {error}") from None


def with_absolute_paths(config: MetaTrainConfig) -> MetaTrainConfig:
    """The configuration with the files that it names as absolute paths, so that it can be resumed from anywhere."""

    def changed(settings: MetaTrainConfig | Component) -> Any:
        names = [name for name in _REFERENCES if getattr(settings, name, None)]
        return dataclasses.replace(settings, **{name: _absolute(getattr(settings, name)) for name in names})

    mixtures = {name: tuple(map(changed, getattr(config, name))) for name in MIXTURES}
    config = dataclasses.replace(changed(config), **mixtures)
    if config.initial_theta is not None and Path(config.initial_theta).exists():
        config = dataclasses.replace(config, initial_theta=str(Path(config.initial_theta).absolute()))
    return config


def file_hashes(config: MetaTrainConfig) -> dict[str, str]:
    """SHA-256 of the files of a user's that the configuration names, by path."""
    settings = [config, *(component for name in MIXTURES for component in getattr(config, name))]
    references = {getattr(each, name, None) for each in settings for name in _REFERENCES}
    sources = {_split_file(reference)[0] for reference in references if reference}
    return {source: hashlib.sha256(Path(source).read_bytes()).hexdigest() for source in sorted(filter(None, sources))}


_REFERENCES = ("task", "optimizer", "local_optimizer", "expert", "estimator", "eval_protocol")


def _split_file(reference: str) -> tuple[str, str]:
    """The file that a reference names ("" if it names none), and the rest of its text."""
    try:
        source, colon, _ = parse(reference).target.rpartition(":")
    except ValueError:
        return "", reference
    is_file = colon and source.endswith(".py") and Path(source).is_file()
    return (source, reference.strip()[len(source) :]) if is_file else ("", reference)


def _absolute(reference: str) -> str:
    source, rest = _split_file(reference)
    return f"{Path(source).absolute()}{rest}" if source else reference


def _one_line(error: Exception, with_type: bool) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if with_type else text
