"""Learned optimizers in files: what a file holds, its bytes, how an optimizer comes out of it again, and the folder of
a model hub; `learned_opt.loading` makes what comes out ready for use."""

from learned_opt.checkpoint.checkpoint import Checkpoint as Checkpoint
from learned_opt.checkpoint.checkpoint import load_checkpoint as load_checkpoint
from learned_opt.checkpoint.checkpoint import save as save
