"""Reading run folders: none silently left out, each once, mistakes named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from reporting.written import write_run

from mmeq.errors import MmeqError
from mmeq.reporting import read_folders
from mmeq.reporting.folders import run_folders
from mmeq.reporting.runs import seedless


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Three runs at three depths, one of which is unfinished, and foreign configurations."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/one"), 0.7)
    write_run(Path("runs/deep/er/two"), 0.8, seed=1)
    write_run(Path("runs/deep/three"), finished=False)
    for foreign in ("runs/one/wandb/run-1/files", "runs/.hydra", "runs/one/aside/then"):
        Path(foreign).mkdir(parents=True)
        (Path(foreign) / "config.yaml").write_text("a: 1")
    return tmp_path


def test_folders_globs_and_runs_name_each_run_once(home):
    assert len(run_folders(["runs"])[0]) == 3
    assert len(run_folders(["runs/one", "runs/*", str(home / "runs" / "**"), "."])[0]) == 3
    Path("link").symlink_to("runs/deep")
    Path("runs/deep/round").symlink_to("..")
    assert len(run_folders(["link"])[0]) == 3
    assert len(run_folders(["link", "runs"])[0]) == 3


def test_a_run_tells_its_numbers(home):
    found = read_folders(["runs"])
    one = next(run for run in found.runs if run.folder.name == "one")
    assert one.replicate == (0, 0)
    assert one.numbers == pytest.approx(
        {"accuracy": 0.7, "macro_f1": 0.69, "nll": 0.3, "edm": 20.0, "missing": 0.6}
        | {"seconds": 0.5, "memory": None, "ece": None}
    )
    assert one.without == {"a": 0.4, "b": 0.5}
    assert one.protocol == "stratified 60/20/20"


def test_unfinished_runs_are_listed(home):
    found = read_folders(["runs"])
    assert found.unfinished == {
        Path("runs/deep/three"): "joint · concat, seed 0, split 0: 2 of 20 epochs"
    }
    with pytest.raises(MmeqError, match=r"runs/deep/three: no run is finished.*1 unfinished"):
        read_folders(["runs/deep/three"])


def test_what_is_not_there_is_named(home):
    with pytest.raises(MmeqError, match="nowhere is not there"):
        read_folders(["runs", "nowhere"])
    Path("empty").mkdir()
    with pytest.raises(MmeqError, match=r"empty: there is no run"):
        read_folders(["empty"])
    with pytest.raises(MmeqError, match=r"no\*: there is no run"):
        read_folders(["no*"])
    assert read_folders(["empty", "runs"]).empty == ["empty"]
    Path("runs/multirun.yaml").touch()  # as a shell's runs/* names it
    assert read_folders(["runs/multirun.yaml", "runs/one"]).empty == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("results.json", '{"test": {"accu', "results.json is damaged: Unterminated string"),
        ("results.json", "[]", "results.json is damaged"),
        ("results.json", '{"test": {}}', "it lacks 'modalities'"),
        ("predictions/test.npz", "no archive", "test.npz is damaged: File is not a zip file"),
        ("config.yaml", "a: [1", "config.yaml is damaged"),
        ("config.yaml", "a: 1", "no configuration of mmeq"),
        ("config.yaml", None, "config.yaml is absent"),
    ],
)
def test_a_damaged_run_is_named_and_costs_no_other(home, file, content, said):
    path = Path("runs/one") / file
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_text(content)
    found = read_folders(["runs"])
    assert [run.folder.name for run in found.runs] == ["two"]
    assert said in found.damaged[Path("runs/one")]
    assert found.damaged[Path("runs/one")].startswith(str(path))  # no other is blamed


@pytest.mark.parametrize("broken", ["x", True, None])
def test_an_accuracy_that_is_no_number_is_damage(home, broken):
    path = Path("runs/one/results.json")
    results = json.loads(path.read_text())
    results["test"]["accuracy"]["value"] = broken
    path.write_text(json.dumps(results))
    assert "is no number" in read_folders(["runs"]).damaged[Path("runs/one")]


def test_a_protocol_is_told_without_its_seeds():
    gaps = "grouped 60/20/20 split_seed=12; made gaps: train 30 %, test 30 %, seed 3"
    assert seedless(gaps) == "grouped 60/20/20; made gaps: train 30 %, test 30 %"


def test_nothing_slow_is_imported(home):
    slow = {"torch", "lightning", "hydra", "omegaconf", "sklearn", "matplotlib", "pandas"}
    code = f"import sys, mmeq.report; sys.argv[1:] = ['runs', '--format', 'all']\n" \
        "try: mmeq.report.main()\nexcept SystemExit: pass\n" \
        f"print('slow:', sorted({slow} & set(sys.modules)))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "slow: []" in done.stdout
