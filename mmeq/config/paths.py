"""Where the YAML files lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

import yaml

from mmeq.errors import MmeqError


def conf_dir() -> Path:
    """Return the absolute folder of the YAML files.

    Raises:
        MmeqError: when the installation has none.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise MmeqError(
        f"the YAML files of mmeq are neither in {package.parent / 'conf'} nor in "
        f"{package / 'conf'}: install mmeq again"
    )


def options_of(config_name: str) -> tuple[set[str], set[str]]:
    """Return the groups and the options that stand in a main's own YAML file.

    Args:
        config_name: of the main, such as ``train``.
    """
    tree = yaml.safe_load((conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8"))
    listed = [name for one in tree.pop("defaults") if isinstance(one, dict) for name in one]
    return set(listed) - {"hydra"}, set(tree)


def groups() -> dict[str, tuple[str, ...]]:
    """Return the config groups with the names that can be chosen in each, Hydra's own left out."""
    found = {}
    for folder in sorted(conf_dir().iterdir()):
        if folder.is_dir() and folder.name != "hydra":
            found[folder.name] = tuple(sorted(path.stem for path in folder.glob("*.yaml")))
    return found
