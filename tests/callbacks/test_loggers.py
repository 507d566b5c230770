"""W&B offline: what a real run records, read back from the record file itself."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmeq.errors import MmeqError
from mmeq.loggers import has_key, wandb_logger

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
                      init_timeout=1.0, finish_timeout=3.0)
log_config([logger], {"method": {"name": "shapley", "supervise": "unimodal"}, "seed": 7})
callbacks = [ShapleyScheduler(), RunRecord(folder), Predictions(folder), Figures(folder)]
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


def train(folder: Path, exit_code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, without any key of the machine, and no terminal to ask."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    home = {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(exit_code)],
        env={**kept, **home, **environment}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def history_of(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
    """Return the rows, the configuration and all records of the offline run."""
    found = list(records(next(folder.glob("wandb/offline-run-*/*.wandb"))))
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
def test_offline_run_records_everything(tmp_path: Path) -> None:
    done = train(tmp_path, exit_code=3)
    assert done.returncode == 0, done.stderr
    assert "wandb" not in done.stdout.lower() + done.stderr.lower()  # silent
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
    assert any(key.startswith("test/coalitions") for key in keys)
    assert "test/accuracy" in keys
    assert [r.exit.exit_code for r in found if r.WhichOneof("record_type") == "exit"] == [3]
    steps = [r.metric.step_metric for r in found if r.WhichOneof("record_type") == "metric"]
    assert "epoch" in steps
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/figures/*.png"))


@pytest.mark.slow
def test_server_out_of_reach_means_offline(tmp_path: Path) -> None:
    """A key is there, the server is not: training goes on, and its record is complete."""
    done = train(tmp_path, WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    rows, _, _ = history_of(tmp_path)
    assert sum("edm" in row for row in rows) == 2


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


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(MmeqError, match="did you mean 'offline'"):
        wandb_logger(mode="ofline")
