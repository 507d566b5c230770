"""W&B offline: what a real run records, read back from the record file itself."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.running import Done, Warm
from PIL import Image

from mmeq.errors import MmeqError
from mmeq.loggers import (
    csv_logger,
    log_config,
    log_figures,
    tensorboard_logger,
)
from mmeq.loggers.starting import has_key
from tests.callbacks.backend import KEY, Backend, serving

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from mmeq.callbacks.figures import Figures
from mmeq.callbacks.predictions import Predictions
from mmeq.callbacks.record import RunRecord
from mmeq.callbacks.scheduler import ShapleyScheduler
from mmeq.loggers import finish_loggers, log_config, wandb_logger
from tests.callbacks.tiny import run
folder = Path(sys.argv[1])
logger = wandb_logger(project="mmeq-test", name="tiny", group="g", tags=["t"], save_dir=folder,
                      job_type="train", init_timeout=float(sys.argv[3]),
                      finish_timeout=float(sys.argv[4]))
log_config([logger], {"method": {"name": "shapley", "supervise": "unimodal"}, "seed": 7})
callbacks = [ShapleyScheduler(), RunRecord(folder), Predictions(folder), Figures(folder)]
if "kill" in sys.argv:
    import os, signal
    from lightning.pytorch import Callback

    class Kill(Callback):
        def on_train_epoch_start(self, trainer, module):
            for status in Path("/proc").glob("[0-9]*/status"):
                told = dict(line.split(":\\t", 1) for line in status.open() if ":\\t" in line)
                mine = told["PPid"].strip() == str(os.getpid())
                if mine and told["Name"].strip().startswith("wandb"):
                    os.kill(int(told["Pid"]), signal.SIGKILL)

    callbacks.insert(0, Kill())
run(folder, callbacks, logger=logger)
finish_loggers([logger], int(sys.argv[2]))
"""


def records(path: Path) -> Iterator[Any]:
    """Read a ``.wandb`` file: a LevelDB log of blocks of 32 KiB, each record a protobuf."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + 7 <= len(data):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


ENDS = ("value", "low", "high")
WITHOUT_KEYS = """
import os
for name in [name for name in os.environ if name.startswith("WANDB") or name == "NETRC"]:
    if name not in {given}:
        del os.environ[name]
"""


def train(
    warm: Warm,
    folder: Path,
    *more: str,
    exit_code: int = 0,
    init: float = 1.0,
    finish: float = 60.0,
    **environment: str,
) -> Done:
    """Train in a process of its own, without any key of the machine, and no terminal to ask."""
    arguments = [str(folder), str(exit_code), str(init), str(finish), *more]
    code = f"{WITHOUT_KEYS.format(given=list(environment))}\n{SCRIPT}"
    return warm.code(code, *arguments, cwd=folder, HOME=str(folder), **environment)


def told(done: Done) -> list[str]:
    """What mmeq says, Lightning's own lines left out."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("mmeq: ")]
    assert not [line for line in done.stderr.splitlines() if line.startswith("wandb:")]
    return [line.removeprefix("mmeq: ") for line in lines]


def history_of(
    folder: Path, place: str = "offline-run"
) -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
    """Return the rows, the configuration and all records of the run, offline or ``run``.

    A start that the server did not answer leaves a folder ``run-…`` with next to nothing in it.
    """
    (path,) = folder.glob(f"wandb/{place}-*/*.wandb")
    found = list(records(path))
    rows, config = [], {}
    for record in found:
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = record.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
        elif kind == "config":
            config.update({u.key: json.loads(u.value_json) for u in record.config.update})
    return rows, config, found


@pytest.mark.slow
def test_offline_run_records_everything(warm, tmp_path: Path) -> None:
    done = train(warm, tmp_path, exit_code=3)
    assert done.status == 0, done.stderr
    assert "wandb" not in done.stdout.lower()
    (place,) = tmp_path.glob("wandb/offline-run-*")
    assert told(done) == [f"W&B: recorded offline; to send it: wandb sync {place}"]
    rows, config, found = history_of(tmp_path)
    history = [
        json.loads(line) for line in (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
    ]
    epochs = [row for row in rows if "shapley/fou" in row]
    assert [row["epoch"] for row in epochs] == [0, 1]
    for row, line in zip(epochs, history, strict=True):
        for name in ("fou", "zer", "mor"):
            assert row[f"shapley/{name}"] == line["phi"][name]["value"]
            assert row[f"shapley_low/{name}"] == line["phi"][name]["low"]
            assert row[f"order/{name}"] == line["order"].index(name)
        for coalition, values in line["values"].items():
            assert row[f"value/{coalition}"] == values["accuracy"]
        assert row["edm"] == line["edm"]["value"]
        assert row["val/accuracy"] == line["accuracy"]["value"]
        assert row["train/final"] == line["losses"]["final"]
        assert row["lr"] == 0.02
        assert "trainer/global_step" not in row
    assert config["method"] == {"name": "shapley", "supervise": "unimodal"}
    assert config["seed"] == 7
    keys = {key for row in rows for key in row}
    assert any(key.startswith("figures/shapley") for key in keys)
    assert "test/accuracy" in keys
    (run,) = [r.run for r in found if r.WhichOneof("record_type") == "run"]
    labels = (run.display_name, run.run_group, run.job_type, list(run.tags))
    assert labels == ("tiny", "g", "train", ["t"])
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    test = results["test"]
    tables = {
        path.name.split("_")[0]: json.loads(path.read_text("utf-8"))
        for path in place.glob("files/media/table/test/*.json")
    }
    rows = {row[0]: row[1:] for row in tables["modalities"]["data"]}
    for place_in_order, name in enumerate(results["order"], start=1):
        assert rows[name] == [*(test["phi"][name][k] for k in ENDS), place_in_order]
    rows = {row[0]: row[1:] for row in tables["coalitions"]["data"]}
    assert tables["coalitions"]["columns"][1:] == ["accuracy", "macro_f1", "nll", "low", "high"]
    for name, values in test["values"].items():
        keys = ("accuracy", "macro_f1", "nll", "low", "high")
        assert rows.pop(name) == [values[key] for key in keys]
    assert not rows
    rows = {row[0]: row[1:] for row in tables["metrics"]["data"]}
    assert rows == {n: [test[n][k] for k in ENDS] for n in ("accuracy", "macro_f1", "nll", "edm")}
    assert [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"] == [3]
    steps = [r.metric.step_metric for r in found if r.WhichOneof("record_type") == "metric"]
    assert "epoch" in steps
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/figures/*.png"))


@pytest.mark.slow
def test_server_out_of_reach_means_offline(warm, tmp_path: Path) -> None:
    """A key is there, the server is not: training goes on, and its record is complete."""
    done = train(warm, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.status == 0, done.stderr
    assert "mmeq: W&B cannot be reached (" in done.stderr
    assert f"wandb sync {next(tmp_path.glob('wandb/offline-run-*'))}\n" in done.stderr
    rows, _, _ = history_of(tmp_path)
    assert sum("edm" in row for row in rows) == 2


@pytest.mark.slow
def test_server_that_fails_in_the_middle(warm, tmp_path: Path) -> None:
    """Training ends well and in time; the command that is told sends all once it is up again.

    The tables too, as files of the run where they were to be artifacts.
    """
    with serving(Backend(fails=True, status=500)) as backend:
        account = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": backend.url}
        start = time.monotonic()
        done = train(warm, tmp_path, init=30.0, finish=3.0, **account)
        assert done.status == 0, done.stderr
        assert time.monotonic() - start < 90  # W&B asks once, for 19 s, whether it may send a table
        assert "W&B failed" not in done.stderr
        assert backend.failed
        assert not backend.rows
        (place,) = tmp_path.glob("wandb/run-*")
        command = f"wandb sync --include-online {place}"
        line = told(done)[-1]
        assert line.endswith(f"; all is on disk, to send it: {command}")
        assert "did not take all within 3 s" in line
        assert (tmp_path / "results.json").is_file()
        backend.fails = False
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        clean["HOME"] = str(tmp_path)
        sent = subprocess.run(
            [sys.executable, "-m", *command.split()], env={**clean, **account},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
    recorded = [row for row in history_of(tmp_path, "run")[0] if "edm" in row]
    assert len(recorded) == 2
    received = [row for row in backend.rows if "edm" in row]
    assert [row["edm"] for row in received] == [row["edm"] for row in recorded]
    assert any(name.startswith("media/images/figures/") for name in backend.files)
    (row,) = [row for row in backend.rows if "test/coalitions" in row]
    for name, lines in (("coalitions", 8), ("modalities", 3), ("metrics", 4)):
        table = row[f"test/{name}"]
        assert table["nrows"] == lines
        assert table["path"] in backend.files
        assert "artifact_path" not in table  # nothing points to what the server never had


@pytest.mark.slow
def test_server_that_works_gets_all_and_nothing_is_told(warm, tmp_path: Path) -> None:
    with serving(Backend()) as backend:
        done = train(warm, tmp_path, init=30.0, WANDB_API_KEY=KEY, WANDB_BASE_URL=backend.url)
    assert done.status == 0, done.stderr
    assert sum("edm" in row for row in backend.rows) == 2
    assert backend.runs[0]["groupName"] == "g"
    for name in ("coalitions", "metrics", "modalities"):
        assert any(name in table for table in backend.tables), backend.tables
    (line,) = told(done)
    assert line.startswith(f"W&B: {backend.url}/me/mmeq-test/runs/")


@pytest.mark.slow
def test_wandb_that_dies_costs_no_run(warm, tmp_path: Path) -> None:
    done = train(warm, tmp_path, "kill")
    assert done.status == 0, done.stderr
    lost, sync = told(done)
    assert lost.startswith("W&B failed (")
    assert sync.startswith("W&B: recorded offline, up to its failure; to send it: wandb sync ")
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["epochs"] == 2


def test_key_is_looked_for_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings:
        api_key = identity_token_file = None
        base_url = "https://api.wandb.ai"

    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    assert not has_key(Settings())
    netrc.write_text("machine other.host\n  login user\n  password x\n", encoding="utf-8")
    netrc.chmod(0o600)
    assert not has_key(Settings())
    netrc.write_text("machine api.wandb.ai\n  login user\n  password x\n", encoding="utf-8")
    assert has_key(Settings())


def test_csv_keeps_every_epoch_and_a_resume_adds_a_version(tmp_path: Path) -> None:
    for epoch in (0, 1):
        logger = csv_logger(tmp_path)
        log_config([logger], {"method": {"name": "joint"}, "seed": 7})
        logger.log_metrics({"epoch": epoch, "shapley/fou": 0.25}, step=epoch)
    for version in (0, 1):
        folder = tmp_path / "csv" / f"version_{version}"
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
            (row,) = csv.DictReader(stream)
        assert (float(row["epoch"]), float(row["shapley/fou"])) == (version, 0.25)
        text = (folder / "hparams.yaml").read_text("utf-8")
        assert yaml.safe_load(text) == {"method": {"name": "joint"}, "seed": 7}


def test_tensorboard_has_scalars_and_figures(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    picture = tmp_path / "edm.png"
    Image.new("RGB", (4, 3), (255, 0, 0)).save(picture)
    for epoch in (0, 1):  # the second is a resume
        logger = tensorboard_logger(tmp_path)
        log_config([logger], {"method": {"name": "joint"}, "seed": 7})
        logger.log_metrics({"epoch": epoch, "value/fou+zer": 0.25 + epoch}, step=epoch)
        log_figures([logger], {"edm": picture}, epoch)
        logger.finalize("success")
    read = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("value/fou+zer")] == [(0, 0.25), (1, 1.25)]
    assert [(e.width, e.height) for e in read.Images("figures/edm")] == [(4, 3)] * 2


def test_tensorboard_that_is_not_there_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MmeqError, match=r"pip install 'mmeq\[tensorboard\]'"):
        tensorboard_logger(tmp_path)
