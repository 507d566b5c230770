"""The main table: shapley against joint and unimodal training on the bundled data.

Each cell of the table is a fresh `python -m mmeq.train` in a run folder of its own; a folder that
has results.json is finished and is not run again. `make main-table` runs what is missing and
writes results.jsonl and the tables in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from mmeq.files import write_text
from mmeq.game import edm_capacity

HERE = Path(__file__).parent
DATASETS = {
    "mfeat": ["fou", "zer", "mor"],
    "mfeat, 150 samples": ["fou", "zer", "mor"],
    "brca": ["rna", "mirna", "methylation"],
    "emoji": ["image", "text"],
}
OPTIONS = {
    "mfeat": ["dataset=mfeat"],
    "mfeat, 150 samples": ["dataset=mfeat", "dataset.train_size=150", "trainer.max_epochs=60"],
    "brca": ["dataset=brca"],
    "emoji": ["dataset=emoji"],
}
METHODS = {
    "shapley, memory": ["method=shapley", "fusion=memory"],
    "shapley, memory (experiment=paper)": ["experiment=paper"],
    "joint, memory": ["method=joint", "fusion=memory"],
    "joint, concat": ["method=joint", "fusion=concat"],
}
REFERENCE = "joint, concat"
MARK = "<!-- table -->"


def jobs(seeds: int) -> dict[tuple[str, str, int], list[str]]:
    """Options of every run, by dataset, method and seed; the seed splits the data too."""
    out = {}
    for dataset, modalities in DATASETS.items():
        alone = {
            f"unimodal, {m}": ["method=unimodal", f"method.modality={m}", "fusion=late"]
            for m in modalities
        }
        for seed in range(seeds):
            for method, options in (METHODS | alone).items():
                out[dataset, method, seed] = [
                    *OPTIONS[dataset],
                    *options,
                    "callbacks=probe",
                    f"seed={seed}",
                    f"dataset.split_seed={seed}",
                ]
    return out


def run(folder: Path, options: list[str]) -> str | None:
    """Train in a fresh process; return the end of its output if it failed."""
    if (folder / "results.json").exists():
        return None
    if folder.exists():  # a run that was cut off: begin it again beside what it left
        folder.rename(folder.with_name(f"{folder.name}.unfinished-{os.getpid()}"))
    command = [sys.executable, "-m", "mmeq.train", *options, f"hydra.run.dir={folder}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    return None if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def slug(*parts: object) -> str:
    """A folder name."""
    return "-".join("".join(c if c.isalnum() else "_" for c in str(part)) for part in parts)


def row(dataset: str, method: str, seed: int, results: dict) -> dict:
    """What the table needs of one run's results."""
    test = results["test"]
    return {
        "dataset": dataset,
        "method": method,
        "seed": seed,
        "accuracy": 100 * test["accuracy"]["value"],
        "macro_f1": 100 * test["macro_f1"]["value"],
        "nll": test["nll"]["value"],
        "edm": test["edm"]["value"],
        "proper": None if test["proper_mean"] is None else 100 * test["proper_mean"],
        "probe": {name: 100 * p["accuracy"] for name, p in results["probe"].items()},
        "phi": {name: phi["value"] for name, phi in test["phi"].items()},
        "chance": test["values"]["none"]["accuracy"],
        "best_epoch": results["best_epoch"],
        "seconds": results["seconds"],
    }


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval over seeds (percentile, 10,000 draws)."""
    values = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    return values.mean(), *np.percentile(draws, [2.5, 97.5])


def cell(values: list[float], digits: int = 1) -> str:
    """Mean (low to high), or – where a figure is undefined."""
    if any(value is None or np.isnan(value) for value in values):
        return "–"
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def capacity_edm(run: dict, here: list[dict]) -> float | None:
    """EDM against what each modality reaches above chance when trained alone, same seed."""
    alone = {r["method"]: r for r in here if r["seed"] == run["seed"]}
    alone = [alone.get(f"unimodal, {name}") for name in run["phi"]]
    if None in alone:
        return None
    capacity = torch.tensor([r["accuracy"] / 100 - r["chance"] for r in alone])
    return float(edm_capacity(torch.tensor(list(run["phi"].values())), capacity))


def table(rows: list[dict]) -> str:
    """Markdown: one table a dataset, methods as rows, paired differences to joint concat."""
    out = []
    for dataset, modalities in DATASETS.items():
        here = [r for r in rows if r["dataset"] == dataset]
        if not here:
            continue
        head = ["method", "accuracy", "− joint concat", "macro-F1", "NLL", "EDM %"]
        head += ["EDM % to capacity", "proper coalitions"]
        head += [f"probe {m}" for m in modalities]
        out += [f"### {dataset}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        base = {r["seed"]: r["accuracy"] for r in here if r["method"] == REFERENCE}
        for method in dict.fromkeys(r["method"] for r in here):
            mine = [r for r in here if r["method"] == method]
            gaps = [r["accuracy"] - base[r["seed"]] for r in mine if r["seed"] in base]
            alone = method.startswith("unimodal")
            cells = [method, cell([r["accuracy"] for r in mine])]
            cells += ["" if method == REFERENCE else cell(gaps)]
            cells += [cell([r["macro_f1"] for r in mine]), cell([r["nll"] for r in mine], 3)]
            if alone:
                cells += ["–", "–", "–"]
            else:
                cells += [cell([r["edm"] for r in mine])]
                cells += [cell([capacity_edm(r, here) for r in mine])]
                cells += [cell([r["proper"] for r in mine])]
            for m in modalities:
                seen = not alone or method.endswith(f" {m}")
                cells.append(cell([r["probe"][m] for r in mine]) if seen else "–")
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/main_table"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="datasets whose name contains this")
    arguments = parser.parse_args()
    todo = {k: v for k, v in jobs(arguments.seeds).items() if arguments.only in k[0]}
    folders = {key: arguments.runs / slug(*key) for key in todo}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        failures = pool.map(lambda key: run(folders[key], todo[key]), todo)
        for number, (key, failure) in enumerate(zip(todo, failures, strict=True), 1):
            print(f"[{number}/{len(todo)}] {slug(*key)}: {failure or 'done'}", flush=True)
    done = {key: f / "results.json" for key, f in folders.items() if (f / "results.json").exists()}
    rows = [row(*key, json.loads(path.read_text())) for key, path in done.items()]
    write_text(HERE / "results.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    page = HERE / "README.md"
    head = page.read_text(encoding="utf-8").split(MARK)[0]
    write_text(page, f"{head}{MARK}\n\n{table(rows)}")
    print(table(rows))
    if len(done) < len(todo):
        sys.exit(f"{len(todo) - len(done)} of {len(todo)} runs failed")


if __name__ == "__main__":
    main()
