"""What the test result is when modalities are missing: a table, a figure and an entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table
from rich.text import Text

from mmeq.callbacks.drawing import draw_figures
from mmeq.callbacks.tables import interval
from mmeq.callbacks.terminal import emit
from mmeq.errors import MmeqError
from mmeq.files import plain
from mmeq.game.missing import RATES, check_rate, missing_table, rates_by_name
from mmeq.game.predictions import binary_logits, read_predictions


class MissingModalities(Callback):
    """Tell the test accuracy under every missing pattern and under random absence.

    Computed from ``predictions/test.npz`` alone (`mmeq.game.missing.missing_table`), since the
    logits of every coalition are those of every pattern: no more passes. Writes ``missing`` into
    the module's findings, and so into ``results.json``, and ``figures/missing.png``.

    Args:
        run_dir: the run folder.
        rates: rates of random absence that all modalities share.
        unequal: further cases of random absence, each a mapping of modality to rate; None for
            the two that are always told (the strong, or the weak, are absent more often).
        full: print every pattern, not only the mean and the worst of so many missing.
    """

    def __init__(
        self,
        run_dir: str | Path,
        rates: Sequence[float] = RATES,
        unequal: Sequence[Mapping[str, float]] | None = None,
        full: bool = False,
    ) -> None:
        """Remember what to tell."""
        for rate in rates:
            check_rate("callbacks.missing.rates", rate)
        self.run_dir, self.rates = Path(run_dir), tuple(rates)
        self.unequal, self.full = tuple(unequal or ()), full

    def check_modalities(self, names: Sequence[str]) -> None:
        """Refuse what names a modality that the dataset lacks; asked before data are read."""
        for case in self.unequal:
            rates_by_name("callbacks.missing.unequal", case, names)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, where the callback is used without the configuration."""
        module: Any = pl_module
        self.check_modalities(module.spec.names)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, draw and print; the predictions were written at the end of the test epoch."""
        module: Any = pl_module
        if not trainer.is_global_zero:
            return
        try:
            table = self.table()
        except MmeqError as error:  # nothing to tell must not cost the run its results
            module.findings["missing"] = {"skipped": str(error)}
            return
        module.findings["missing"] = plain(table)
        self._draw(trainer, table)
        emit(*missing_lines(table, self.full), Text())

    def table(self) -> dict[str, Any]:
        """Return the table of this run folder's predictions."""
        arrays = read_predictions(self.run_dir / "predictions" / "test.npz")
        present = arrays.get("present")
        return missing_table(
            binary_logits(arrays),
            torch.from_numpy(arrays["labels"]),
            arrays["modalities"].tolist(),
            present_NM=None if present is None else torch.from_numpy(present),
            rates=self.rates,
            unequal=self.unequal,
            seed=int(arrays.get("seed", 0)),
        )

    def _draw(self, trainer: Trainer, table: Mapping[str, Any]) -> None:
        from mmeq.callbacks.plot_missing import plot_missing

        draw_figures(trainer, self.run_dir, {"missing": lambda: plot_missing(table)})


def missing_lines(table: Mapping[str, Any], full: bool = False) -> list[Text | Table]:
    """Return what a person reads of `missing_table`.

    Args:
        table: as computed.
        full: list every pattern.
    """
    title = "test accuracy when modalities are missing (95 % interval)"
    if not table["complete"]:
        title += ", beyond what samples lack themselves"
    rows: list[tuple[str, str, str]] = [("none", interval(table["full"], "accuracy"), "")]
    count = len(table["by_missing"]) + 1
    for entry in table["by_missing"]:
        worst = " + ".join(entry["worst"])
        note = "" if entry["patterns"] == 1 else f"mean of {entry['patterns']}; worst "
        note += f"with {worst} left: {100 * entry['worst_accuracy']:.1f} %"
        label = f"{entry['missing']} of {count}"
        rows.append((label, interval(entry["accuracy"], "accuracy"), note))
        if full:
            for pattern in table["patterns"]:
                if pattern["missing"] == entry["missing"]:
                    shown = interval(pattern["accuracy"], "accuracy")
                    rows.append((f"  {' + '.join(pattern['absent'])}", shown, ""))
    rows.append(("any, mean", interval(table["mean"], "accuracy"), "of all patterns"))
    for entry in table["rates"]:
        label = f"{100 * entry['rate']:g} % at random"
        note = f"{100 * entry['effective']:.0f} % in effect, since one is kept"
        same = round(100 * entry["effective"]) == round(100 * entry["rate"])
        rows.append((label, interval(entry["accuracy"], "accuracy"), "" if same else note))
    for entry in table["unequal"]:
        named = ", ".join(f"{n} {100 * r:g} %" for n, r in entry["rates"].items() if r)
        rows.append(("unequal", interval(entry["accuracy"], "accuracy"), named))
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("", "missing", "accuracy", ""):
        shown.add_column(head)
    for label, value, note in rows:
        shown.add_row("", label, value, Text(note, style="dim"))
    return [Text(title, style="bold"), shown]
