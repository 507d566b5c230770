"""A W&B workspace with mmeq's panels: the keys of the runs, read by their common prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmeq.errors import MmeqError
from mmeq.loggers.starting import first_line, has_key

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "mmeq"
LINES = {
    "Balance": {
        "φ, Shapley value of each modality": r"^shapley/.*",
        "φ, ends of the 95 % intervals": r"^shapley_(low|high)/.*",
        "EDM (%), 0 is balance, with its interval": r"^edm(_low|_high)?$",
        "Training order (0 is trained first)": r"^order/.*",
    },
    "Coalitions": {
        "Value of every coalition": r"^value/.*",
        "Mean over missing modalities": r"^val/proper_mean$",
    },
    "Training": {
        "Losses": r"^(train/.*|val/nll)$",
        "Validation accuracy and macro-F1": r"^val/(accuracy|macro_f1)$",
        "Learning rate": r"^lr(/.*)?$",
    },
}
"""Section → title → the metrics, as `mmeq.callbacks.entries.flat_metrics` names them."""
SUMMARY = ("test/accuracy", "test/macro_f1", "test/nll", "test/edm", "test/proper_mean")
TABLES = ("test/metrics", "test/modalities", "test/coalitions")
FIGURES = ("shapley", "edm", "order", "losses", "coalitions", "confusion", "missing")


def save_workspace(project: str) -> str:
    """Save a workspace in a project and return its address; each call makes another view.

    Args:
        project: ``<entity>/<project>``.

    Raises:
        MmeqError: without wandb-workspaces, a key or access.
    """
    made = build_workspace(project)
    import wandb

    if not has_key(wandb.setup(settings=wandb.Settings(silent=True)).settings):
        raise MmeqError(
            "project= needs a W&B key: run `wandb login`, or set WANDB_API_KEY; without one, "
            "runs=<folder> writes a local page"
        )
    try:
        made.save()
    except Exception as error:  # of the network, the server or the project
        raise MmeqError(f"project={project}: W&B refused it: {first_line(error)}") from error
    return str(made.url)


def build_workspace(project: str) -> Workspace:
    """Return the workspace, without asking W&B anything.

    Args:
        project: ``<entity>/<project>``.

    Raises:
        MmeqError: when the project is not so written, or wandb-workspaces is not installed.
    """
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise MmeqError(f"project={project}: give <entity>/<project>, such as me/mmeq")
    try:
        from wandb_workspaces import workspaces as ws
        from wandb_workspaces.reports import v2 as wr
    except ImportError as error:
        raise MmeqError(
            "project= needs the package wandb-workspaces: pip install 'mmeq[dashboard]'; "
            "runs=<folder> writes a local page and needs nothing"
        ) from error
    sections = [
        section(ws, head, [wr.LinePlot(title=t, x="epoch", metric_regex=r) for t, r in of.items()])
        for head, of in LINES.items()
    ]
    bars: list[Any] = [wr.BarPlot(title=key, metrics=[key]) for key in SUMMARY]
    bars += [wr.WeavePanelSummaryTable(table_name=name) for name in TABLES]
    sections.append(section(ws, "Test", bars))
    media = wr.MediaBrowser(title="Figures", media_keys=[f"figures/{name}" for name in FIGURES])
    sections.append(section(ws, "Figures", [media]))
    return ws.Workspace(
        entity=entity,
        project=name,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch"),
        runset_settings=ws.RunsetSettings(groupby=[]),
    )


def section(ws: Any, name: str, panels: list[Any]) -> Any:  # noqa: ANN401 - of wandb-workspaces
    """Return an open section, three panels across."""
    layout = ws.SectionLayoutSettings(columns=3, rows=max(1, -(-len(panels) // 3)))
    return ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout)
