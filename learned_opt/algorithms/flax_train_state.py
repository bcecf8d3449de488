"""A flax `TrainState` that passes the loss on to the optimizer. Needs flax, which the library itself does not.

`TrainState.apply_gradients(grads=..., value=...)` takes further keywords for fields to replace; optimizers that read
the loss would never see it.
"""

from __future__ import annotations

from typing import Any

import optax
from flax import struct
from flax.training.train_state import TrainState


class LossTrainState(TrainState):
    """`TrainState` whose `apply_gradients` has an argument for the loss."""

    # Flax annotates it as a FrozenDict, which its modules no longer return.
    params: Any = struct.field(pytree_node=True)

    def apply_gradients(self, *, grads: Any, value: Any = None, **kwargs: Any) -> LossTrainState:
        """One optimizer step.

        Args:
          grads: gradients, the structure of `params`.
          value: the loss, passed to the optimizer as `value` unless None.
          **kwargs: fields to replace, as in `TrainState`.
        """
        extra = {} if value is None else {"value": value}
        tx = optax.with_extra_args_support(self.tx)
        updates, opt_state = tx.update(grads, self.opt_state, self.params, **extra)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **kwargs)
