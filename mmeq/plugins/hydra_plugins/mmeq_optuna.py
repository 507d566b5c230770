"""The sweeper of ``hydra/sweeper=optuna``; Hydra takes plugins from ``hydra_plugins`` alone."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Searches by Optuna; see `mmeq.sweeps.search` and ``conf/hydra/sweeper/optuna.yaml``.

    Args:
        options: as in the YAML file.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - checked by the search
        """Keep the options until the sweep begins."""
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra hands to a sweeper, and build the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search until as many trials have ended as were asked for."""
        from mmeq.sweeps.search import search

        search(self, arguments)
