"""A task family with one parameter scale for each task, by reference: the augmentation of Celo2's meta-training.

    meta_train.scaled_family:scaled,family=fmnist8_mlp_varied
    meta_train.scaled_family:scaled,family='mnist:mlp32,image_size=8'

All parameters of a task are divided by a number c, log-uniform in [lowest, highest], and multiplied by it again in the
loss (Metz et al. 2022, arXiv 2203.11860; the range is that of Moudgil et al. 2026, arXiv 2602.19142), so that an
optimizer cannot learn one size of parameters by heart.
"""

from meta_train.references import find_family
from tasks.augmentation import with_reparametrisation
from tasks.base import TaskFamily


def scaled(family: str, lowest: float = 1e-3, highest: float = 1e3) -> TaskFamily:
    """The family, with a scale drawn for each task.

    Args:
      family: a reference, as `--task` takes it.
      lowest: of the scales.
      highest: of the scales.

    Raises:
      ValueError: no such family, or not 0 < lowest <= highest.
      FileNotFoundError: its dataset was not found.
    """
    return with_reparametrisation(find_family(family), (lowest, highest))
