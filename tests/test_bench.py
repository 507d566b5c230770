"""The bench: what its files hold, that a failure costs one section alone, and its page."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

BENCH = Path(__file__).parents[1] / "experiments" / "bench"
README = "# Bench\n\nby hand\n\n<!-- bench -->\nold\n<!-- /bench -->\n\nafter\n"


@pytest.fixture
def bench(monkeypatch):
    """Modules of the bench, by name: its `run` is not that of the other experiments."""
    monkeypatch.syspath_prepend(str(BENCH))
    names = [path.stem for path in BENCH.glob("*.py")]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)  # other numbers sum in another order
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)


def test_a_line_has_median_range_and_facts_of_pairs_in_turn(bench):
    measure, calls = bench("measure"), []

    def run(name, values):
        left = iter(values)

        def once():
            calls.append(name)
            return next(left)

        return once

    # the first of each warms up: were it counted, the largest ratio would be 99
    line = measure.ratio("a / b", run("a", [99, 2, 6, 3]), run("b", [1, 2, 2, 2]), 3, aim=1.1)
    assert calls == ["a", "b"] * 4
    assert line == {
        "name": "a / b",
        "ratio": 1.5,
        "lowest": 1.0,
        "highest": 3.0,
        "repeats": 3,
        "seconds": [3, 2],
        "aim": 1.1,
    }
    assert "1.500  (1.000 to 3.000)" in measure.told(line)
    assert "aim 1.10" in measure.told(line)


def test_a_section_that_fails_keeps_its_lines_and_the_others(bench, tmp_path, monkeypatch, capsys):
    run = bench("run")

    def breaks(quick):
        yield {"name": "first", "seconds": 1.0}
        raise ValueError("broken on purpose")

    def holds(quick):
        yield {"name": f"quick is {quick}", "seconds": 2.0}

    sections = {"training": breaks, "validation": holds}
    measured = run.measured
    monkeypatch.setattr(run, "measured", lambda s, quick: measured(s, quick, sections.get))
    monkeypatch.setattr(run, "HERE", tmp_path)
    assert run.main(["--quick", "--only", "training,validation"]) == 1
    assert "failed: training" in capsys.readouterr().err
    found = json.loads((tmp_path / "results-quick.json").read_text())["sections"]
    assert found["training"]["error"] == "ValueError: broken on purpose"
    assert found["training"]["lines"] == [{"name": "first", "seconds": 1.0}]
    assert found["validation"]["lines"] == [{"name": "quick is True", "seconds": 2.0}]
    assert "error" not in found["validation"]
    assert run.main(["--quick", "--only", "validation"]) == 0
    assert "training" in json.loads((tmp_path / "results-quick.json").read_text())["sections"]


def test_merge_keeps_other_sections_of_the_same_kind_in_order(bench, tmp_path):
    run, path = bench("run"), tmp_path / "results.json"
    run.merge(path, False, {"commit": "one"}, {"growth": {"seconds": 1, "lines": []}})
    run.merge(path, False, {"commit": "two"}, {"training": {"seconds": 2, "lines": []}})
    found = json.loads(path.read_text())
    assert list(found["sections"]) == ["training", "growth"]
    assert found["environment"] == {"commit": "two"}
    assert [one["commit"] for one in found["sections"].values()] == ["two", "one"]
    run.merge(path, False, {}, {"growth": {"seconds": 3, "lines": [], "commit": "three"}})
    found = json.loads(path.read_text())["sections"]
    assert found["growth"]["seconds"] == 3
    assert found["training"]["seconds"] == 2
    run.merge(path, True, {}, {"growth": {"seconds": 4, "lines": []}})
    assert list(json.loads(path.read_text())["sections"]) == ["growth"]


def test_unknown_sections_are_refused_before_anything_is_measured(bench, capsys):
    run = bench("run")
    with pytest.raises(SystemExit):
        run.main(["--only", "training,trainig"])
    assert "no section 'trainig'" in capsys.readouterr().err


def test_every_section_has_its_module_and_quick_leaves_the_long_ones_out(bench):
    run = bench("run")
    assert all((BENCH / f"{module}.py").is_file() for module in run.SECTIONS.values())
    quick, full = run.arguments(["--quick"]).sections, run.arguments([]).sections
    assert full == list(run.SECTIONS)
    assert set(full) - set(quick) == set(run.FULL_ONLY)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_exponent_of_an_exact_power(bench, power):
    exponent = bench("growth").exponent
    sizes = [3, 10, 40, 100]
    assert exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_an_exponent_needs_two_sizes(bench):
    with pytest.raises(ValueError, match="two sizes"):
        bench("growth").exponent([2, 2], [1, 1])


def test_parts_are_exclusive_and_add_up(bench, monkeypatch):
    profiling = bench("profiling")
    ticks = iter(range(100))
    monkeypatch.setattr(profiling, "now", lambda where: float(next(ticks)))
    parts = profiling.Parts(None)
    inner = parts.timed("inner", lambda: None)
    parts.timed("outer", lambda: (inner(), inner()))()
    # the clock moves by one at each entrance and exit: outer i outer i outer
    assert dict(parts.seconds) == {"outer": 3.0, "inner": 2.0}
    lines = list(profiling.shares("job", parts.seconds, 10.0))
    assert math.fsum(line["share"] for line in lines) == pytest.approx(1)
    assert lines[-1]["part"] == profiling.LOOP


def results(quick=True):
    ratio = {"ratio": 1.2, "lowest": 1.1, "highest": 1.3, "repeats": 3, "seconds": [1.2, 1.0]}
    job = {"job": "epoch", "name": "epoch: x"}
    return {
        "environment": {"torch": "2", "cpu": None},
        "quick": quick,
        "sections": {
            "training": {
                "seconds": 5.0,
                "commit": "abc",
                "lines": [
                    {"name": "a | b", "aim": 1.1, "peak_mb": 512.0, **ratio},
                    {"name": "c", "aim": 2.0, "samples_per_second": [10.0, 12.0], **ratio},
                ],
            },
            "growth": {
                "seconds": 1.0,
                "error": "ValueError: no",
                "lines": [
                    {
                        "name": "tree",
                        "exponent": 0.97,
                        "expected": 1,
                        "reason": "cells",
                        "sizes": [15, 63],
                        "seconds": [1.0, 4.0],
                    }
                ],
            },
            "profile": {
                "seconds": 1.0,
                "lines": [
                    {**job, "part": "backward", "share": 0.6, "seconds": 6.0},
                    {**job, "part": "data", "share": 0.4, "seconds": 4.0},
                ],
            },
            "device": {"seconds": 0.0, "lines": [{"name": "not run", "device": "cpu"}]},
        },
    }


def test_the_page_has_tables_between_its_marks_and_a_picture(bench, tmp_path):
    page = bench("page")
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "results-quick.json").write_text(json.dumps(results()))
    page.write_page(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Bench\n\nby hand\n\n<!-- bench -->")
    assert text.endswith("<!-- /bench -->\n\nafter\n")
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert (
        "| a \\| b | 1.200 (1.100 to 1.300) | 1.10 | **no** | 1.200 s / 1.000 s | 512 |  |" in rows
    )
    assert (
        "| c | 1.200 (1.100 to 1.300) | 2.00 | yes | 1.200 s / 1.000 s |  | 10.0 / 12.0 samples/s |"
        in rows
    )
    assert "| tree | 15 to 63 | 0.97 | 1 | cells |" in rows
    assert "| backward | 60.0% |" in rows
    assert "- not run: device cpu" in text
    assert "**Failed:** `ValueError: no`" in text
    with Image.open(tmp_path / "bars.png") as picture:
        assert len(picture.convert("L").getcolors()) > 20  # something is drawn


def test_full_results_come_before_quick_ones(bench, tmp_path):
    page = bench("page")
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "results-quick.json").write_text(json.dumps(results()))
    full = results(quick=False)
    full["sections"] = {"growth": {**full["sections"]["growth"], "seconds": 77.0}}
    (tmp_path / "results.json").write_text(json.dumps(full))
    page.write_page(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "`make bench`, 77 s" in text
    assert "`make bench-quick`, 1 s" in text
    assert text.count("### Growth") == 1


def test_the_page_tells_what_changes_brought(bench, tmp_path):
    page, measure = bench("page"), bench("measure")
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "results-quick.json").write_text(json.dumps(results()))
    lines = [measure.line("epoch", [1.0, 2.0], [2.0, 2.0]), measure.line("other", [1.0], [1.0])]
    change = {"what": "faster", "commit": "abc", "expected": "half", "job": "epoch"}
    found = {"from": "start", "to": "abc", "changes": [{**change, "lines": lines}], "all": lines}
    (tmp_path / "changes.json").write_text(json.dumps(found))
    page.write_page(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "| faster (`abc`) | epoch | half | **0.750 (0.500 to 1.000)** | other 1.000 |" in text


def test_a_page_without_results_or_marks_is_refused(bench, tmp_path):
    page = bench("page")
    with pytest.raises(FileNotFoundError, match="run the bench first"):
        page.write_page(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(results()))
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="<!-- bench -->"):
        page.write_page(tmp_path)
    assert not (tmp_path / "bars.png").exists()
