"""The one training loop, its settings, optimizers, schedules and what it leaves on disk.

Pretraining, continued pretraining and fine-tuning differ in their objective, batches and starting weights only.
The package itself can be called: ``beichen.train(recipe)`` is ``beichen.train.run.train(recipe)``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beichen.train.result import TrainResult


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **settings: Any) -> TrainResult:
        from beichen.train.run import train

        return train(*arguments, **settings)


sys.modules[__name__].__class__ = _CallableModule
