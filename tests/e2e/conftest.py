"""One warm process for all commands of a test session."""

from collections.abc import Iterator

import pytest
from e2e.running import Warm


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()
