"""Where the YAML files lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

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


def groups() -> dict[str, tuple[str, ...]]:
    """Return the config groups with the names that can be chosen in each, Hydra's own left out."""
    found = {}
    for folder in sorted(conf_dir().iterdir()):
        if folder.is_dir() and folder.name != "hydra":
            found[folder.name] = tuple(sorted(path.stem for path in folder.glob("*.yaml")))
    return found
