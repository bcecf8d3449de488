"""Learned optimizers for (local) SGD as ordinary optax transforms."""

from learned_opt.algorithms.data_parallel import data_parallel as data_parallel
from learned_opt.algorithms.local_sgd import local_sgd as local_sgd
from learned_opt.algorithms.local_updates import LocalUpdatesState as LocalUpdatesState
from learned_opt.algorithms.local_updates import local_updates as local_updates
from learned_opt.algorithms.round import local_steps as local_steps
from learned_opt.algorithms.round import simulate as simulate
from learned_opt.algorithms.round import spread as spread
from learned_opt.architectures import from_config as from_config
from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt as adafac_mlp_lopt
from learned_opt.architectures.lagg import lagg_a as lagg_a
from learned_opt.architectures.lagg import lopt_a as lopt_a
from learned_opt.base import LearnedOptimizer as LearnedOptimizer
from learned_opt.base import LocalAlgorithm as LocalAlgorithm
from learned_opt.base import RoundInfo as RoundInfo
from learned_opt.base import RoundState as RoundState
from learned_opt.base import Theta as Theta
from learned_opt.checkpoint import Checkpoint as Checkpoint
from learned_opt.checkpoint import load as load
from learned_opt.checkpoint import load_checkpoint as load_checkpoint
from learned_opt.checkpoint import save as save
from learned_opt.model_folder import export_folder as export_folder
from learned_opt.model_folder import push_to_hub as push_to_hub
from learned_opt.pretrained import pretrained_names as pretrained_names
