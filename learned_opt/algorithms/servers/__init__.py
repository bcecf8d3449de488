"""More server optimizers, beside those of `learned_opt.algorithms.server`: optax transforms over the mean
pseudo-gradient of `local_sgd`."""
