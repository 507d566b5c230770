"""Warnings of mmeq are one line, those of other packages as Python has them; quotes for Hydra."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

import mmeq
from mmeq.config.cli import plain_warning, quoted


def test_only_own_warnings_are_plain():
    own = str(Path(mmeq.__file__).parent / "data" / "datamodule.py")
    assert plain_warning("few samples", UserWarning, own, 3) == "mmeq: warning: few samples\n"
    other = plain_warning("odd", UserWarning, "elsewhere.py", 3)
    assert "elsewhere.py:3: UserWarning: odd" in other


def heard(literal):
    """What a shell and then Hydra make of it."""
    (argument,) = shlex.split(literal)
    (override,) = OverridesParser.create().parse_overrides([argument])
    return override.key_or_group, override.value()


PATHS = (
    "/data/größe",
    "/a/x=y",
    "/a/x,y",
    "/a/{x}",
    "/a/it's",
    "/a/$HOME`!",
    "C:\\x\\",
    "/a/(b)#[c]",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_quoted_so_that_it_is_read_as_it_is(path):
    assert heard(quoted(f"data_root={path}")) == ("data_root", path)


def test_quotes_are_the_plainest_that_do():
    assert quoted("data_root=/a/ü=1") == """data_root="'/a/ü=1'\""""
    assert quoted("data_root=/a/$x,") == """'data_root="/a/$x,"'"""


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
@pytest.mark.parametrize("path", PATHS)
def test_a_shell_takes_it_too(path):
    """A real one: between double quotes it heeds more than `shlex` does."""
    literal = quoted(f"data_root={path}")
    done = subprocess.run(["sh", "-c", f"printf %s {literal}"], capture_output=True, check=True)
    (override,) = OverridesParser.create().parse_overrides([done.stdout.decode()])
    assert override.value() == path


@given(st.text(st.characters(exclude_categories=["C"]), min_size=1))
@example("\\'")
@example("a\\\"'")
def test_whatever_is_proposed_is_right(value):
    literal = quoted(f"data_root={value}")
    assert literal is None or heard(literal) == ("data_root", value)


@pytest.mark.parametrize("override", ["fusion.cell=[", "seed 3", "x=", "ü=3", "a='b", "n={a: 1"])
def test_what_quotes_do_not_mend(override):
    assert quoted(override) is None
