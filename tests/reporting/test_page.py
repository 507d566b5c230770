"""The page of the report: read back by html.parser, its numbers by its own axes."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from reporting.tree import Tree, curves, find, rows, text
from reporting.written import write_run

from mmeq import report
from mmeq.reporting import compare, html, kept_runs, read_folders
from mmeq.reporting.folders import Found

NAMES = ('a<b>"&', "zer")
BOTH = "+".join(NAMES)
TITLE = "</title><script>alert(1)</script>"
HOSTILE = 'x"><img src=x onerror=alert(1)>'
STEPS = 3


def line(row, seed, accuracy, **other):
    """A kept run of which every number follows from its accuracy, by hand."""
    epochs = [accuracy - 0.1 * (STEPS - 1 - step) for step in range(STEPS)]
    return {
        "table": TITLE, "row": row, "options": [], "dataset": "toy", "protocol": "p 60/20/20",
        "method": "joint", "fusion": "concat", "modalities": list(NAMES),
        "seed": seed, "split_seed": 0, "epochs": STEPS, "best_epoch": 2, "seconds": 1.5,
        "memory": {"peak_mb": 10.0, "kind": "rss"}, "game": "accuracy", "empty": 0.5,
        "test": {
            "accuracy": accuracy, "macro_f1": accuracy, "nll": 0.3, "edm": 20.0,
            "proper_mean": accuracy - 0.1, "phi": {NAMES[0]: 0.1, NAMES[1]: accuracy - 0.6},
            "values": {"none": 0.5, NAMES[0]: 0.6, NAMES[1]: accuracy - 0.1, BOTH: accuracy},
        },
        "missing": {"0.1": accuracy - 0.01, "0.5": accuracy - 0.05},
        "calibration": [*[[0, None, None]] * 8, [4, 0.85, 0.75], [6, 0.95, accuracy]],
        "ece": 0.04 + seed / 100, "classes": ["no", "<yes>"],
        "confusion": [[4, 1], [seed + 1, 3]],
        "history": {
            "order": [[0, 1], [1, 0], [1, 0]] if seed else [[0, 1], [0, 1], [1, 0]],
            "phi": {NAMES[0]: [0.1] * STEPS, NAMES[1]: [v - 0.6 for v in epochs]},
            "edm": [30.0, 20.0, 10.0 + seed], "accuracy": epochs,
        },
        **other,
    }  # fmt: skip


def lines():
    made = [line("joint concat", seed, 0.7 + seed / 100) for seed in range(3)]
    made += [line(HOSTILE, seed, 0.9 - seed / 50, method="shapley") for seed in range(3)]
    return made


def page(tmp_path, kept):
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in kept), encoding="utf-8")
    found = Found(runs=kept_runs(file))
    tables = compare(found.runs)
    return html(tables, found), tables


@pytest.fixture
def made(tmp_path):
    return page(tmp_path, lines())


@pytest.fixture
def root(made):
    return Tree(made[0]).root


def panel(root, name):
    return next(
        e for tag in ("div", "p") for e in find(root, tag) if e[1].get("data-panel") == name
    )


def drawn(root, name):
    """The figures of a panel that has one a row."""
    return {text(find(f, "figcaption")[0]): f for f in find(panel(root, name), "figure")}


def test_the_page_is_alone_and_nothing_in_it_is_taken_for_markup(made, root, tmp_path):
    text_of, _ = made
    assert len(find(root, "script")) == 1
    for tag in ("img", "link", "iframe", "object", "embed", "form"):
        assert not find(root, tag)
    every = [root]
    for element in every:
        every.extend(element[3])
        assert not any(key.startswith("on") or key in ("src", "srcdoc") for key in element[1])
    assert all(a[1]["href"].startswith("#") for a in find(root, "a"))
    for outside in ("http:", "https:", "//", "@import", "url("):
        assert outside not in text_of
    assert "default-src 'none'" in text_of
    assert text(find(root, "h2")[0]) == TITLE
    assert text_of == page(tmp_path, lines())[0]


def test_identifiers_are_unique_and_what_refers_to_them_is_there(root):
    every = [root]
    for element in every:
        every.extend(element[3])
    names = [element[1]["id"] for element in every if "id" in element[1]]
    assert len(names) == len(set(names))
    for element in every:
        for key in ("aria-labelledby", "data-row"):
            assert element[1].get(key, names[0]) in names


def test_every_figure_has_a_name_and_a_description(root):
    figures = [svg for svg in find(root, "svg") if svg[1].get("aria-hidden") != "true"]
    assert len(figures) >= 3 + 3 + 2 * 3
    for svg in figures:
        assert svg[1]["role"] == "img"
        assert svg[1]["aria-label"]
        assert text(find(svg, "desc")[0])


def test_the_table_has_what_it_is_sorted_by(made, root):
    _, (table,) = made
    (sheet,) = find(root, "table", class_="sheet")
    heads = find(find(sheet, "thead")[0], "th")
    assert {head[1]["aria-sort"] for head in heads} == {"none"}
    titles = [text(head) for head in heads]
    assert titles[:5] == ["method", "runs", "accuracy", "− joint concat", "p (Holm)"]
    assert {"macro-F1", "NLL", "ECE", "EDM %", "missing", "worst removal"} <= set(titles)
    body = find(find(sheet, "tbody")[0], "tr")
    assert [text(row[3][0]) for row in body] == ["joint concat", HOSTILE]
    for row, told in zip(table.rows, body, strict=True):
        cells = dict(zip(titles, told[3], strict=True))
        assert all("data-value" in cell[1] for cell in told[3])
        for title, key in (("accuracy", "accuracy"), ("ECE", "ece"), ("EDM %", "edm")):
            mean = row.estimates[key].mean
            assert float(cells[title][1]["data-value"]) == pytest.approx(mean)
    p = table.rows[1].p_holm
    assert text(cells["p (Holm)"]) == f"{p:.3f}"
    assert float(cells["p (Holm)"][1]["data-value"]) == pytest.approx(p)
    assert text(cells["accuracy"]) == "88.0 83.0 to 93.0"
    assert "1 comparison, * survives Holm" in text(find(root, "ul", class_="notes")[0])


def test_curves_are_means_over_runs(root):
    learning, edm, missing = (
        curves(find(panel(root, name), "figure")[0]) for name in ("learning", "edm", "missing")
    )
    (line_of,), (band,) = learning["joint concat"]
    assert [x for x, _ in line_of] == pytest.approx([1, 2, 3], abs=0.01)
    assert [y for _, y in line_of] == pytest.approx([51, 61, 71], abs=0.2)
    half = 4.3026527 * 1 / np.sqrt(3)
    assert band[STEPS - 1][1] - line_of[-1][1] == pytest.approx(half, abs=0.2)
    assert [y for _, y in edm[HOSTILE][0][0]] == pytest.approx([30, 20, 11], abs=0.2)
    (rates,), _ = missing[HOSTILE]
    assert [x for x, _ in rates] == pytest.approx([0, 10, 50], abs=0.1)
    assert [y for _, y in rates] == pytest.approx([88, 87, 83], abs=0.2)
    phi = {name: curves(figure) for name, figure in drawn(root, "shapley").items()}
    assert [y for _, y in phi["joint concat"][NAMES[1]][0][0]] == pytest.approx(
        [-0.09, 0.01, 0.11], abs=0.01
    )


def test_orders_coalitions_confusion_and_reliability_are_over_all_runs(root):
    order = drawn(root, "orders")["joint concat"]
    squares = find(order, "rect")
    assert [text(square) for square in squares] == [
        f"{name}, epoch {epoch + 1}: mean place {place}"
        for name, places in zip(NAMES, (("1", "1.67", "2"), ("2", "1.33", "1")), strict=True)
        for epoch, place in enumerate(places)
    ]
    assert [float(square[1]["fill-opacity"]) for square in squares[:3]] == [1.0, 0.333, 0.0]
    table = rows(drawn(root, "coalitions")["joint concat"])
    assert [row[0] for row in table] == ["coalition", "none", *NAMES, BOTH]
    assert table[-1][2] == "71.0 (68.5 to 73.5)"
    matrix = rows(drawn(root, "confusion")["joint concat 3 runs"])
    assert matrix == [["", "no", "<yes>"], ["no", "80", "20"], ["<yes>", "40", "60"]]
    told = drawn(root, "reliability")["joint concat ECE 0.050 (0.025 to 0.075)"]
    assert text(find(told, "desc")[0]) == (
        "confidence 85.0 %: accuracy 75.0 %, 12 answers; "
        "confidence 95.0 %: accuracy 71.0 %, 18 answers."
    )


def test_the_options_that_runs_of_a_row_share_are_told(tmp_path):
    kept = lines()
    for one in kept:
        one["options"] = ["method=<joint>", f"seed={one['seed']}", "batch_size=8"]
    root = Tree(page(tmp_path, kept)[0]).root
    assert [text(code) for code in find(root, "code")] == ["method=<joint> batch_size=8"] * 2


def test_dots_lie_where_their_numbers_are(root):
    figure = drawn(root, "dots")["Test accuracy"]
    assert [text(find(g, "title")[0]) for g in find(figure, "g")] == [
        "joint concat: 71.0 (68.5 to 73.5)",
        f"{HOSTILE}: 88.0 (83.0 to 93.0)",
    ]
    ticks = [(float(t[1]["x"]), float(text(t))) for t in find(figure, "text", class_="x")]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    dots = [float(find(g, "circle")[0][1]["cx"]) for g in find(figure, "g")]
    values = [v0 + (x - x0) * (v1 - v0) / (x1 - x0) for x in dots]
    assert values == pytest.approx([71, 88], abs=0.1)


def test_of_many_rows_the_first_the_reference_and_the_best_are_ticked(tmp_path):
    accuracies = [0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.9, 0.55]
    kept = [line(f"row {k}", 0, a, method="mla") for k, a in enumerate(accuracies)]
    kept.insert(6, line("joint concat", 0, 0.4))
    text_of, (table,) = page(tmp_path, kept)
    root = Tree(text_of).root
    labels = [text(label) for label in find(find(root, "fieldset")[0], "label")]
    assert labels == [row.label for row in table.rows]
    ticks = find(root, "input", type="checkbox")
    ticked = [label for label, tick in zip(labels, ticks, strict=True) if "checked" in tick[1]]
    assert ticked == ["joint concat", "row 0", "row 1", "row 2", "row 6"]
    for tick in ticks:
        key = tick[1]["id"]
        rule = f"#t1:has(#{key}:not(:checked)) [data-row={key}] {{ display: none }}"
        assert rule in text_of
        assert len(re.findall(f'data-row="{key}"', text_of)) >= 2 * 3 + 5


def test_what_runs_lack_is_said(tmp_path):
    short = ("history", "missing", "calibration", "ece", "confusion")
    kept = lines()
    kept[4:] = [{k: v for k, v in one.items() if k not in short} for one in kept[4:]]
    many = line("many", 0, 0.7)
    kept.append({k: v for k, v in many.items() if k not in ("confusion", "classes")})
    root = Tree(page(tmp_path, kept)[0]).root
    said = [text(p) for p in find(root, "p", class_="lacks")]
    for reason in (
        "no history was kept",
        "missing rates were not measured (callbacks.missing)",
        "predictions were not kept",
    ):
        assert f"Left out ({reason}): {HOSTILE} (2 of 3 runs)." in said
    assert "Left out (more than 10 classes): many." in said
    assert len(drawn(root, "shapley")) == 3
    bare = [{k: v for k, v in one.items() if k not in short} for one in lines()]
    root = Tree(page(tmp_path, bare)[0]).root
    for name in ("shapley", "orders", "confusion", "reliability"):
        assert text(panel(root, name)).startswith("Nothing to show. Left out (")
        assert text(panel(root, name)).endswith("all rows.")
    for name in ("learning", "edm", "missing"):
        assert not find(panel(root, name), "figure")


def test_epochs_that_not_all_runs_have_reached_are_not_drawn(tmp_path):
    kept = lines()
    for name in ("order", "edm", "accuracy"):
        kept[0]["history"][name] = kept[0]["history"][name][:2]
    kept[0]["history"]["phi"] = {k: v[:2] for k, v in kept[0]["history"]["phi"].items()}
    root = Tree(page(tmp_path, kept)[0]).root
    learning = curves(find(panel(root, "learning"), "figure")[0])
    assert len(learning["joint concat"][0][0]) == 2
    assert len(learning[HOSTILE][0][0]) == 3


def test_runs_of_one_modality_have_no_panels_of_balance(tmp_path):
    kept = [*lines(), *(line("alone", seed, 0.6, alone=NAMES[1]) for seed in range(3))]
    root = Tree(page(tmp_path, kept)[0]).root
    for name in ("shapley", "orders", "coalitions"):
        assert len(drawn(root, name)) == 2
    assert "alone 3 runs" in drawn(root, "confusion")
    assert set(curves(find(panel(root, "learning"), "figure")[0])) >= {"alone"}
    assert "alone" not in curves(find(panel(root, "edm"), "figure")[0])


def test_a_damaged_history_costs_its_own_panels(tmp_path):
    """The folders of `write_run` have a history that lacks all but the number of the epoch."""
    write_run(tmp_path / "runs/one")
    found = read_folders([str(tmp_path / "runs")])
    root = Tree(html(compare(found.runs), found)).root
    assert "history.jsonl is damaged: it lacks 'order'" in text(panel(root, "shapley"))
    assert len(drawn(root, "coalitions")) == 1


def test_the_command_prints_and_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/one")
    write_run(tmp_path / "runs/open", finished=False)
    page(tmp_path, lines())
    (tmp_path / "results.jsonl").open("a", encoding="utf-8").write('{"torn')
    given = ["runs", "results.jsonl", "--format", "html", "--output", "made"]
    monkeypatch.setattr(sys, "argv", ["mmeq.report", *given])
    with pytest.raises(SystemExit, match="2"):
        report.main()
    out = capsys.readouterr()
    assert out.out == (tmp_path / "made/report.html").read_text("utf-8")
    assert "mmeq: results.jsonl, line 7 is damaged: Unterminated string" in out.err
    root = Tree(out.out).root
    assert [text(h) for h in find(root, "h2")] == [TITLE, "mfeat", "Unfinished", "Damaged"]
    assert [text(a) for a in find(find(root, "nav")[0], "a")] == [TITLE, "mfeat"]
