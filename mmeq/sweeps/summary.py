"""What is told at the end of a sweep: a table, a figure, what failed and why, how to go on."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mmeq.config.cli import MISTAKE
from mmeq.config.schema import MONITORS
from mmeq.files import write_text
from mmeq.sweeps.state import STATES, UNFINISHED, Job, broken_off, busy, jobs

SEEDS = ("seed", "dataset.split_seed", "dataset.fold")
"""Options that repeat a setting."""

SHOWN = 20
"""Jobs that the terminal shows; the files have all."""


def summarise(sweep: Path) -> int:
    """Print what has become of a sweep's jobs; write ``sweep.csv`` and ``sweep.png`` beside them.

    Jobs are sorted by the validation metric that chose their epoch; of the best alone (over seeds,
    of the best setting) the test figures are told, since looking at all would choose by them.

    Returns:
        An exit status: 0 where no job has failed or was broken off.
    """
    found = jobs(sweep)
    if not found:
        return 0
    options = varied(found)
    ranked = sorted(found, key=rank)
    monitors = {job.monitor: None for job in ranked if job.monitor}
    rows = [row(job, options, list(monitors), sweep) for job in ranked]
    _told(f"\n{sweep}: {counted(found)}")
    for line in aligned(rows[:SHOWN]):
        _told(line)
    if len(rows) > SHOWN:
        _told(f"… and {len(rows) - SHOWN} more")
    places = []
    try:
        write_text(sweep / "sweep.csv", table(rows))
        places.append("sweep.csv")
        from mmeq.sweeps.figure import draw

        if draw(found, options, sweep / "sweep.png"):
            places.append("sweep.png")
    except OSError as error:
        _warned(f"the table of the sweep cannot be written to {sweep} ({error.strerror})")
    for line in best(found, options):
        _told(line)
    _told(f"all of it: {', '.join(str(sweep / place) for place in places)}")
    _told(f"intervals and tests over seeds: python -m mmeq.report {sweep}")
    failed = [job for job in found if job.state == "failed"]
    if failed:
        _warned(
            f"{len(failed)} of {len(found)} jobs failed; they are tried again by the same command:"
        )
        for job in failed:
            _warned(f"  {job.folder}: {job.reason}")
    unfinished = [job for job in found if job.state in UNFINISHED]
    if at_work := [job for job in unfinished if busy(job)]:
        _told(f"{len(at_work)} of {len(found)} jobs are run by another process")
    free = [job for job in unfinished if job not in at_work]
    if left := sum(broken_off(job) for job in free):
        _warned(
            f"{left} of {len(found)} jobs were broken off; to go on, with what was not begun too: "
            f"the same command with hydra.sweep.dir={sweep}"
        )
    return MISTAKE if failed or left else 0


def rank(job: Job) -> tuple[int, float, int]:
    """Return what sorts jobs: the best first, then those without a value, by number."""
    if job.value is None:
        return (1 + STATES.index(job.state), 0.0, job.number)
    sign = 1 if MONITORS.get(job.monitor or "") == "min" else -1
    return (0, sign * job.value, job.number)


def parsed(job: Job) -> dict[str, str]:
    """Return option → value of a job's overrides."""
    pairs = (override.lstrip("+").partition("=") for override in job.overrides)
    return {key: value for key, _, value in pairs}


def varied(found: Sequence[Job]) -> list[str]:
    """Return the options in which the jobs differ, in the order of the command line."""
    settings = [parsed(job) for job in found]
    keys = dict.fromkeys(key for setting in settings for key in setting)
    return [key for key in keys if len({setting.get(key) for setting in settings}) > 1]


def row(job: Job, options: Sequence[str], monitors: Sequence[str], sweep: Path) -> dict[str, str]:
    """Return a job as a row of the table."""
    setting, value = parsed(job), "" if job.value is None else f"{job.value:.4f}"
    return {
        "job": str(job.folder.relative_to(sweep)),
        **{option: setting.get(option, "") for option in options},
        **{monitor: value if monitor == job.monitor else "" for monitor in monitors},
        "EDM": "" if job.edm is None else f"{job.edm:.1f}",
        "seconds": f"{job.seconds:.0f}",
        "state": job.state,
    }


def aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return rows as lines whose columns stand below each other, the heads first."""
    heads = list(rows[0])
    lines = [heads, *([short(row[head]) for head in heads] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def short(text: str) -> str:
    """Return a number with five digits, any other text as it is.

    Examples:
        >>> short("0.009723854130471919"), short("3e-05"), short("hybrid"), short("12")
        ('0.0097239', '3e-05', 'hybrid', '12')
    """
    try:
        return f"{float(text):.5g}" if len(text) > 8 else text
    except ValueError:
        return text


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def counted(found: Sequence[Job]) -> str:
    """Say how many jobs are in which state."""
    states = [job.state for job in found]
    parts = [f"{states.count(state)} {state}" for state in STATES if state in states]
    return f"{len(found)} jobs: {', '.join(parts)}"


def settings(found: Sequence[Job], options: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
    """Group the finished jobs of one setting, whatever their seeds."""
    kept = [option for option in options if option not in SEEDS]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in found:
        if job.state == "finished" and job.value is not None:
            setting = parsed(job)
            name = tuple(f"{option}={setting[option]}" for option in kept if option in setting)
            groups.setdefault(name, []).append(job)
    return groups


def best(found: Sequence[Job], options: Sequence[str]) -> list[str]:
    """Tell which setting is best on validation, and what it reaches on the test part."""
    groups = settings(found, options)
    if len({job.monitor for jobs in groups.values() for job in jobs}) != 1:
        return []  # nothing has finished, or by different metrics
    monitor = str(next(iter(groups.values()))[0].monitor)
    sign = 1 if MONITORS.get(monitor) == "min" else -1
    means = {name: fmean(job.value or 0.0 for job in jobs) for name, jobs in groups.items()}
    name = min(means, key=lambda one: sign * means[one])
    chosen = groups[name]
    said = ", ".join(name) or "the one setting"
    over = f", mean of {len(chosen)} runs" if len(chosen) > 1 else ""
    tests = [_test(job.folder) for job in chosen]
    return [
        f"best on validation: {said} ({monitor} {means[name]:.4f}{over}); on the test part: "
        f"accuracy {percent(tests, 'accuracy', 100)}, EDM {percent(tests, 'edm', 1)}"
    ]


def percent(tests: Sequence[Mapping[str, Any]], metric: str, times: float) -> str:
    """Return a test metric: of one run with its interval, of several their mean and range."""
    found = [test[metric] for test in tests]
    values = [times * one["value"] for one in found if one["value"] is not None]
    if len(values) < len(found):
        return "n/a"
    if len(values) > 1:
        return f"{fmean(values):.1f} % (from {min(values):.1f} to {max(values):.1f})"
    ends = [found[0].get(end) for end in ("low", "high")]
    between = "" if None in ends else f" ({' … '.join(f'{times * end:.1f}' for end in ends)})"
    return f"{values[0]:.1f} %{between}"


def _test(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test: dict[str, Any] = results["test"]
    return test


def _told(line: str) -> None:
    print(line, flush=True)


def _warned(line: str) -> None:
    print(f"mmeq: {line}", file=sys.stderr, flush=True)
