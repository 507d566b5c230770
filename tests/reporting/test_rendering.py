"""The report as Markdown, CSV and LaTeX, and the command that writes it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys

import pytest
from reporting.written import read, write_run

from mmeq import report
from mmeq.reporting import compare, latex, markdown, read_folders, report_csv, runs_csv

UGLY = r"a_b%c&d#e$f{g}h~i^j\k|l*m<n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        write_run(tmp_path / f"runs/j{seed}", 0.7 + 0.01 * seed, seed=seed, split=seed)
        write_run(tmp_path / f"runs/s{seed}", 0.9 + 0.02 * seed, seed=seed, split=seed,
                  method="ogm_ge", edm={"value": 10.0})  # fmt: skip
        write_run(tmp_path / f"runs/u{seed}", 0.5, seed=seed, split=seed, method="unimodal",
                  options={"method.modality": "a"})  # fmt: skip
    write_run(tmp_path / "runs/ugly", seed=0, options={"inference": UGLY})
    write_run(tmp_path / "runs/open", finished=False)
    return tmp_path


def told(home):
    found = read_folders([str(home / "runs")])
    return compare(found.runs), found


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_is_a_table(home):
    text = markdown(*told(home))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(cells(line)) for line in lines}
    assert len(widths) == 1
    assert re.fullmatch(r"[|-]+", lines[1])
    head, rows = cells(lines[0]), {cells(line)[0]: cells(line) for line in lines[2:]}
    assert head[:4] == ["method", "runs", "accuracy", "− joint"]
    assert rows["joint"][:4] == ["joint", "3", "71.0 (67.5 to 74.5)", ""]
    assert rows["ogm_ge"][2] == "**92.0** (85.0 to 99.0)"
    assert rows["ogm_ge"][3] == r"21.0\* (17.5 to 24.5)"
    ugly = next(row for row in rows.values() if "inference" in row[0])
    assert ugly[0] == r"joint · inference=a_b%c&d#e$f{g}h\~i^j\\k\|l\*m\<n"
    assert ugly[2] == "80.0 (–)"
    assert "time / joint" in head
    assert not any("memory" in title for title in head)  # no run has told it
    assert "### Unfinished\n\n1 run, in no table:" in text
    assert "open: joint · concat, seed 0, split 0: 2 of 20 epochs" in text
    assert rows["unimodal a"][head.index("EDM %")] == "–"


def test_csv_has_every_number_in_full(home):
    tables, found = told(home)
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(report_csv(tables)))}
    ogm = tables[0].rows[[row.label for row in tables[0].rows].index("ogm_ge")]
    for name in ("accuracy", "difference", "nll", "edm", "missing", "time"):
        estimate = ogm.estimates[name]
        assert float(lines["ogm_ge"][name]) == estimate.mean
        assert float(lines["ogm_ge"][f"{name}_low"]) == estimate.low
        assert int(lines["ogm_ge"][f"{name}_n"]) == 3
    assert float(lines["ogm_ge"]["p"]) == ogm.p
    assert lines["ogm_ge"]["significant"] == "1"
    assert lines["joint"]["difference"] == lines["unimodal a"]["edm"] == ""
    runs = list(csv.DictReader(io.StringIO(runs_csv(tables, found))))
    assert len(runs) == 11
    assert sorted({run["status"] for run in runs}) == ["finished", "unfinished"]
    by_folder = {run["folder"].rpartition("/")[2]: run for run in runs}
    assert float(by_folder["s1"]["accuracy"]) == 0.92
    assert by_folder["s1"]["row"] == "ogm_ge"


def test_latex_is_whole(home):
    text = latex(*told(home))
    bare = re.sub(r"\\[\\{}&%#_$]", "", text)
    assert bare.count("{") == bare.count("}")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    for line in body.splitlines()[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1
    assert r"21.0*$_{17.5}^{24.5}$" in text
    assert r"ogm\_ge" in text
    assert "% unfinished: " in text
    assert all(line.isascii() for line in text.splitlines() if not line.startswith("%"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
def test_latex_compiles(home):
    (home / "report.tex").write_text(latex(*told(home)), encoding="utf-8")
    page = (
        r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{report}\end{document}"
    )
    (home / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["mmeq.report", *arguments])
    with pytest.raises(SystemExit) as leaving:
        report.main()
    out = capsys.readouterr()
    return leaving.value.code, out.out, out.err


def test_the_command_prints_and_writes(home, monkeypatch, capsys):
    status, out, err = command(monkeypatch, capsys, "runs", "--output", "made/tables")
    assert status == 0
    assert out == (home / "made/tables/report.md").read_text("utf-8")
    assert {path.name for path in (home / "made/tables").iterdir()} == set(report.FILES)
    assert "1 unfinished run is in no table" in err
    status, out, _ = command(monkeypatch, capsys, "runs/j*", "--format", "csv")
    assert len(out.splitlines()) == 2
    status, out, _ = command(monkeypatch, capsys, "runs", "--format", "all")
    for name in ("report.md", "report.csv", "report.tex"):
        assert (home / "made/tables" / name).read_text("utf-8") in out


def test_mistakes_are_one_line(home, monkeypatch, capsys):
    for wrong, said in (
        (["nowhere"], "mmeq: nowhere is not there"),
        (["runs", "--reference", "ogm_gee"], "did you mean 'ogm_ge'"),
        (["runs", "--ignore", "optimm"], "mmeq: --ignore optimm: no run has this option"),
        (["runs", "--output", "runs/j0/config.yaml"], "is a file: give a folder"),
    ):
        status, out, err = command(monkeypatch, capsys, *wrong)
        assert (status, out) == (2, "")
        assert said in err
        assert "Traceback" not in err
    status, _, err = command(monkeypatch, capsys, "runs", "--output", "runs/j0/config.yaml/x")
    assert status == 2
    assert err.startswith("mmeq: runs/j0/config.yaml/x/report.md cannot be written (")
    assert err.count("\n") == 1
    (home / "runs/j0/results.json").write_text("{")
    status, out, err = command(monkeypatch, capsys, "runs")
    assert status == 2
    assert "runs/j0/results.json is damaged" in err
    assert "### Damaged" in out  # and the others are reported


def test_help_explains(monkeypatch, capsys):
    status, out, _ = command(monkeypatch, capsys, "--help")
    assert status == 0
    for word in ("--reference", "--ignore", "Nadeau", "Holm", "unfinished", "split_seed"):
        assert word in out


def test_every_run_is_in_the_report_once(home):
    tables, _ = told(home)
    counted = [run.folder for table in tables for row in table.rows for run in row.runs.values()]
    assert sorted(counted) == sorted(run.folder for run in read(home / "runs"))
