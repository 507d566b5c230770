"""A warning of mmeq is one line; one of another package keeps Python's form."""

from pathlib import Path

import mmeq
from mmeq.config.cli import plain_warning


def test_only_own_warnings_are_plain():
    own = str(Path(mmeq.__file__).parent / "data" / "datamodule.py")
    assert plain_warning("few samples", UserWarning, own, 3) == "mmeq: warning: few samples\n"
    other = plain_warning("odd", UserWarning, "elsewhere.py", 3)
    assert "elsewhere.py:3: UserWarning: odd" in other
