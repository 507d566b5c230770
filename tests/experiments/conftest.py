"""What the tests of experiments share: their modules, and `experiments/run.py` as a command."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from made_up import README

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def load():
    """Modules of experiments/, by name."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
        yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measure(load) -> Callable[[str], ModuleType]:
    """The measure.py of a question, by its name."""
    return lambda name: load("engine.runs").module_of(EXPERIMENTS / name, "measure")


@pytest.fixture(scope="module")
def command(warm):
    """Runs `experiments/run.py` in a fork of a process that has imported everything."""

    def call(*arguments: object, cwd: Path, before: str = "") -> object:
        code = (
            f"import runpy, sys\nsys.path.insert(0, {str(EXPERIMENTS)!r})\n{before}\n"
            f"runpy.run_path({str(EXPERIMENTS / 'run.py')!r}, run_name='__main__')"
        )
        return warm.code(code, *arguments, "--jobs", "1", cwd=cwd)

    return call


@pytest.fixture(scope="module")
def answered(command):
    """Answers a question with a measure.py in a folder; gives the question's folder there."""

    def call(name: str, sweep: dict, cwd: Path) -> Path:
        folder = cwd / name
        if not folder.is_dir():
            folder.mkdir()
            (folder / "measure.py").symlink_to(EXPERIMENTS / name / "measure.py")
            (folder / "README.md").write_text(README, encoding="utf-8")
        text = yaml.safe_dump(sweep, sort_keys=False)
        (folder / "sweep.yaml").write_text(text, encoding="utf-8")
        done = command(name, "--questions", cwd, cwd=cwd)
        assert done.status == 0, done.stderr
        return folder

    return call


@pytest.fixture
def copied(tmp_path):
    """A copy of a question's folder, of which the runs are gone."""
    return lambda folder: shutil.copytree(folder, tmp_path / folder.name, symlinks=True)


@pytest.fixture(scope="module")
def committed(load, measure, tmp_path_factory):
    """Checks that the committed lines are whole and the page is theirs; returns the lines."""

    def check(name: str) -> list[dict]:
        home = EXPERIMENTS / name
        question = load("engine.cells").Measured(home, measure(name))
        kept = load("engine.lines").read(home / "results.jsonl", question.needed)
        lines = load("engine.lines").chosen(kept, question.jobs(), question.key)
        assert len(lines) == len(question.jobs()) == len(kept)
        page = shutil.copy(home / "README.md", tmp_path_factory.mktemp(name))
        load("engine.page").put(Path(page), measure(name).text(lines))
        assert Path(page).read_bytes() == (home / "README.md").read_bytes()
        assert (home / "results.jsonl").stat().st_size < 400_000
        return lines

    return check
