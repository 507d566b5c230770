"""The configuration layer: where conf lies, `validate`, `build`, and the rules of run folders.

Importing it loads neither torch nor lightning, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

from mmeq.config.build import Run, build
from mmeq.config.instantiate import instantiate
from mmeq.config.paths import conf_dir, groups
from mmeq.config.schema import Root
from mmeq.config.validate import validate

__all__ = ["Root", "Run", "build", "conf_dir", "groups", "instantiate", "validate"]
