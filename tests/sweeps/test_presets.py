"""Presets that sweep: what they try exists, and the search presets share one space."""

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from mmeq.config import conf_dir, groups, validate
from mmeq.sweeps.search import Options


def composed(*overrides, hydra=False):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=hydra)


def parsed(*overrides):
    """The sweep of a preset, as Hydra reads it."""
    params = composed(*overrides, hydra=True).hydra.sweeper.params
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        return parser.parse_overrides([f"{key}={value}" for key, value in params.items()])


def jobs(*overrides):
    (batch,) = BasicSweeper.split_arguments(parsed(*overrides), None)
    return batch


def test_the_comparison_sweeps_every_method():
    batch = jobs("experiment=comparison")
    methods = {job[0].partition("=")[2] for job in batch}
    assert methods == set(groups()["method"]) - {"unimodal"}
    assert len(batch) == len(methods) * 10


def test_each_seed_of_the_comparison_has_a_split_of_its_own():
    assert composed("experiment=comparison", "dataset=brca", "seed=7").dataset.split_seed == 7
    given = ("experiment=comparison", "seed=7", "dataset.split_seed=3")
    assert composed(*given).dataset.split_seed == 3


def test_the_grid_is_made_of_options_that_fit():
    batch = jobs("search=grid")
    assert len(batch) == len({tuple(job) for job in batch}) == 36
    for job in (batch[0], batch[-1], batch[17]):
        validate(composed("search=grid", *job))


@pytest.mark.parametrize("preset", ["random", "optuna"])
def test_a_search_draws_from_the_same_options(preset):
    pytest.importorskip("optuna")
    from mmeq.sweeps.space import space

    fixed, searched = space(parsed(f"search={preset}"))
    assert not fixed
    grid = {override.get_key_element() for override in parsed("search=grid")}
    assert set(searched) == grid
    cfg = composed(f"search={preset}", hydra=True).hydra.sweeper
    options = Options.read({k: v for k, v in cfg.items() if k not in ("_target_", "params")})
    assert options.sampler == ("random" if preset == "random" else "tpe")
    drawn = [
        f"{key}={getattr(found, 'high', None) or found.choices[-1]}"
        for key, found in searched.items()
    ]
    validate(composed(f"search={preset}", *drawn))


def test_options_of_a_search_are_checked():
    for wrong in ({"trails": 3}, {"trials": 0}, {"sampler": "grid"}, {"parallel": "two"}):
        with pytest.raises(Exception, match=f"hydra.sweeper.{next(iter(wrong))}"):
            Options.read(wrong)


@pytest.mark.parametrize("preset", groups()["search"])
def test_the_folder_is_known_before_the_first_job(preset):
    """By the configuration alone: Hydra's resolvers know nothing before a job runs."""
    cfg = composed(f"search={preset}", "dataset=brca", hydra=True)
    assert cfg.hydra.sweep.dir == f"runs/search/{preset}-brca-shapley"
