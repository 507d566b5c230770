"""The W&B workspace: built, and sent to a small server; the real one's answer was never seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from mmeq.callbacks.entries import flat_metrics
from mmeq.errors import MmeqError
from mmeq.workspace import FIGURES, LINES, SUMMARY, TABLES, build_workspace
from tests.callbacks.backend import KEY, Backend, serving

SAVE = "from mmeq.workspace import save_workspace; print(save_workspace('me/balance'))"


def interval(value: float) -> dict:
    return {"value": value, "low": value, "high": value, "normalised": value}


LINE = {
    "game": "accuracy",
    **{name: interval(0.5) for name in ("accuracy", "macro_f1", "nll", "edm")},
    "phi": {"fou": interval(0.1), "zer": interval(0.2)},
    "proper_mean": 0.4,
    "values": {"fou": {"accuracy": 0.3}, "fou+zer": {"accuracy": 0.5}},
    "order": ["fou", "zer"],
    "losses": {"final": 1.0},
    "lr": {"a": 0.1, "b": 0.2},
}
"""A line of history, as far as the metrics need."""


def test_every_panel_finds_metrics_and_the_main_ones_are_on_some_panel():
    keys = set(flat_metrics(LINE))
    patterns = [pattern for panels in LINES.values() for pattern in panels.values()]
    for pattern in patterns:
        assert any(re.search(pattern, key) for key in keys), pattern
    shown = {key for key in keys if any(re.search(pattern, key) for pattern in patterns)}
    left = {"val/accuracy_low", "val/accuracy_high", "val/macro_f1_low", "val/macro_f1_high"}
    assert keys - shown == left | {"val/nll_low", "val/nll_high", "edm_normalised"}
    assert set(SUMMARY) <= set(flat_metrics(LINE, prefix="test"))


def test_the_workspace_has_all_panels_and_reaches_the_server(tmp_path):
    pytest.importorskip("wandb_workspaces")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    kept |= {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    with serving(Backend()) as backend:
        done = subprocess.run(
            [sys.executable, "-c", SAVE], capture_output=True, text=True, timeout=120, check=False,
            env={**kept, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": backend.url}, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (view,) = backend.views
    assert (view["entityName"], view["projectName"]) == ("me", "balance")
    assert "me/balance" in done.stdout
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    panels = {section["name"]: section["panels"] for section in sections}
    assert list(panels) == [*LINES, "Test", "Figures"]
    for name, lines in LINES.items():
        found = [panel["config"] for panel in panels[name]]
        assert [one["metricRegex"] for one in found] == list(lines.values())
        assert {one["xAxis"] for one in found} == {"epoch"}
    text = json.dumps(panels)
    for key in (*SUMMARY, *TABLES, *(f"figures/{name}" for name in FIGURES)):
        assert json.dumps(key)[1:-1] in text, key


@pytest.mark.parametrize("project", ["mmeq", "/mmeq", "me/", "me/mmeq/x"])
def test_a_project_without_its_entity_is_refused(project):
    with pytest.raises(MmeqError, match="give <entity>/<project>"):
        build_workspace(project)


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(MmeqError, match=r"pip install 'mmeq\[dashboard\]'"):
        build_workspace("me/mmeq")
