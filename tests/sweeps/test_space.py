"""A search's space in Hydra's grammar, and values written in it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from mmeq.errors import MmeqError
from mmeq.sweeps.literal import literal

optuna = pytest.importorskip("optuna")
from optuna.distributions import (  # noqa: E402
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mmeq.sweeps.space import space  # noqa: E402

PARSER = OverridesParser.create()
EXPECTED = {
    "interval(0.1,1)": FloatDistribution(0.1, 1.0),
    "tag(log,interval(1e-4,1e-2))": FloatDistribution(1e-4, 1e-2, log=True),
    "int(interval(1,8))": IntDistribution(1, 8),
    "range(1,10)": IntDistribution(1, 9),
    "range(1,10,step=3)": IntDistribution(1, 7, step=3),
    "range(2,11,step=3)": IntDistribution(2, 8, step=3),
    "range(0.1,0.5,step=0.1)": FloatDistribution(0.1, 0.4, step=0.1),
    "tag(log,range(1,65))": IntDistribution(1, 64, log=True),
    "choice(hybrid,cyclic)": CategoricalDistribution(["hybrid", "cyclic"]),
    "1e-3,3e-3": CategoricalDistribution(["0.001", "0.003"]),
    "[a,b],[c]": CategoricalDistribution(["[a,b]", "[c]"]),
}


@pytest.mark.parametrize("text", EXPECTED)
def test_distributions(text):
    fixed, searched = space(PARSER.parse_overrides(["seed=3", f"a.b={text}"]))
    assert fixed == ["seed=3"]
    (found,) = searched.values()
    want = EXPECTED[text]
    assert type(found) is type(want)
    if isinstance(want, CategoricalDistribution):
        assert found == want
    else:
        assert (found.low, found.log, found.step) == (want.low, want.log, want.step)
        assert found.high == pytest.approx(want.high)


def test_a_range_draws_what_hydra_lists():
    for text in ("range(1,10)", "range(1,10,step=3)", "range(0.1,0.5,step=0.1)"):
        override = PARSER.parse_override(f"a={text}")
        listed = [float(value) for value in override.sweep_string_iterator()]
        (found,) = space([override])[1].values()
        count = round((found.high - found.low) / found.step) + 1
        assert [found.low + k * found.step for k in range(count)] == pytest.approx(listed)


def test_the_command_line_comes_last():
    both = PARSER.parse_overrides(["a=interval(0,1)", "b=1,2", "a=0.5", "b=choice(3,4)"])
    fixed, searched = space(both)
    assert fixed == ["a=0.5"]
    assert searched == {"b": CategoricalDistribution(["3", "4"])}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tag(lin,interval(1,2))", "there is no tag 'lin'"),
        ("tag(log,interval(0,1))", "cannot be drawn from"),
        ("interval(2,1)", "cannot be drawn from"),
        ("shuffle(range(1,5))", "no shuffle"),
    ],
)
def test_what_cannot_be_drawn_from(text, said):
    with pytest.raises(MmeqError, match=said):
        space([PARSER.parse_override(f"a={text}")])


TEXTS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_literal_is_read_as_the_value(value):
    if "$" not in repr(value):  # a reference
        assert PARSER.parse_override(f"a={literal(value)}").value() == value
