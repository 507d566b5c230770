"""One direction of imports: mains -> config -> module -> {methods, callbacks} -> … -> game."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmeq
from mmeq.config import conf_dir

PACKAGE = Path(mmeq.__file__).parent
LAYERS = [
    {"collective", "device", "errors", "files"},
    {"game"},
    {"fusions", "encoders", "data", "inference"},
    {"methods", "callbacks", "loggers", "losses", "reporting"},
    {"model", "workspace"},
    {"module"},
    {"config"},
    {"sweeps"},
    {"plugins"},
    {"train", "eval", "predict", "prepare", "inspect", "report", "dashboard"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
BESIDE = {
    ("collective", "device"),
    ("encoders", "data"),
    ("inference", "fusions"),
    ("callbacks", "loggers"),
    ("callbacks", "methods"),
}
"""Parts of one layer of which the first may use the second."""
FORBIDDEN = {
    "game": {"lightning", "hydra", "omegaconf", "wandb"},
    "fusions": {"lightning", "hydra", "omegaconf", "wandb"},
    "encoders": {"lightning", "hydra", "omegaconf", "wandb"},
    "inference": {"lightning", "hydra", "omegaconf", "wandb"},
    "methods": {"lightning", "hydra", "omegaconf", "wandb"},
    "data": {"hydra", "omegaconf", "wandb"},
    "callbacks": {"hydra", "omegaconf"},
    "model": {"hydra", "omegaconf", "wandb"},
    "module": {"hydra", "omegaconf", "wandb"},
    "reporting": {"lightning", "hydra", "omegaconf", "wandb"},
    "report": {"lightning", "hydra", "omegaconf", "wandb"},
    "dashboard": {"lightning", "hydra", "omegaconf", "wandb"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports, those in functions too, those for type checkers not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    here = part_of(path)
    if here == "__init__":
        assert not {name for name in imported(path) if name.startswith("mmeq")}
        return
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in FORBIDDEN.get(here, set()), f"mmeq/{here} imports {name}"
        parts = name.split(".")
        if top != "mmeq" or len(parts) < 2 or parts[1] in (here, "__version__"):
            continue
        there = parts[1]
        lower = RANK[there] < RANK[here]
        assert lower or (here, there) in BESIDE, f"mmeq/{here} imports {name}"


def test_no_method_is_named_outside_its_own_file():
    names = {path.stem for path in (conf_dir() / "method").glob("*.yaml")}
    assert names <= {path.stem for path in (PACKAGE / "methods").glob("*.py")}
    for path in FILES:
        for name in imported(path):
            parts = name.split(".")
            if parts[:2] == ["mmeq", "methods"] and len(parts) > 2 and parts[2] in names:
                assert path == PACKAGE / "methods" / f"{parts[2]}.py", f"{path} imports {name}"
