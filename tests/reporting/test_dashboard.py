"""The local page: read back by html.parser, its figures by their own axes."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from reporting.tree import Tree, curves, find, rows, text
from reporting.written import CONFIG

from mmeq import dashboard
from mmeq.errors import MmeqError
from mmeq.reporting.dashboard import page, read_records

NAMES = ('a<b>"&', "zer")


def number(value, half=0.05):
    return {"value": value, "low": value - half, "high": value + half}


def entry(step):
    """A game report as history and results have it; every number is another."""
    values = {"none": 0.1, NAMES[0]: 0.3 + step, NAMES[1]: 0.4 + step, "+".join(NAMES): 0.6 + step}
    return {
        "game": "accuracy",
        "accuracy": number(0.6 + step),
        "macro_f1": number(0.55 + step),
        "nll": number(1.2 - step),
        "phi": {name: number(0.2 + step + 0.1 * m) for m, name in enumerate(NAMES)},
        "edm": number(30 - 100 * step, 5),
        "proper_mean": 0.35 + step,
        "values": {
            name: {"accuracy": v, "macro_f1": v - 0.02, "nll": 2 - v, "low": v - 0.04, "high": None}
            for name, v in values.items()
        },
    }


def run(folder, epochs=3, finished=True, name="x<script>&"):
    folder.mkdir(parents=True)
    config = copy.deepcopy(CONFIG) | {"name": name}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    lines = []
    for step in range(epochs):
        order = NAMES if step % 2 else NAMES[::-1]
        losses = {f"step/{NAMES[0]}": 2.0 - step / 7, "final": 1.5 - step / 9}
        seconds = {"seconds": 2.0 + step}
        lines.append(
            {"epoch": step, **entry(step / 50), "order": order, "losses": losses, **seconds}
        )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "history.jsonl").write_text(text + '{"torn', encoding="utf-8")
    if finished:
        case = {"missing": 1, "accuracy": number(0.45), "patterns": 2, "worst": [NAMES[0]]}
        told = {
            "dataset": "mfeat", "method": "joint", "fusion": "concat", "seed": 4, "split_seed": 5,
            "modalities": NAMES, "test": entry(0.07), "best_epoch": 1,
            "missing": {
                "full": number(0.67), "by_missing": [{**case, "worst_accuracy": 0.37}],
                "mean": number(0.44), "unequal": [],
                "rates": [{"rate": 0.3, "effective": 0.25, "accuracy": number(0.58)}],
            },
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(told), encoding="utf-8")
    return lines


def upwards(figure):
    first, *_, last = find(figure, "text", class_="y")
    return (float(first[1]["y"]) > float(last[1]["y"])) == (float(text(first)) < float(text(last)))


def test_figures_and_tables_have_the_numbers_of_the_folders(tmp_path):
    lines = run(tmp_path / "runs" / "a&b <1>")
    under_way = run(tmp_path / "runs" / "under", epochs=2, finished=False)
    home = tmp_path / "out"
    html = page(read_records([str(tmp_path / "runs")]).records, home)
    root = Tree(html).root
    first, second = find(root, "section")
    for section, history in ((first, lines), (second, under_way)):
        figures = find(section, "figure")
        grows = [upwards(figure) for figure in figures]
        assert grows == [True, True, False, True]  # the first in the order stands on top
        shapley, edm, order, losses = map(curves, figures)
        epochs = [line["epoch"] + 1 for line in history]
        for name in NAMES:
            (line,), (band,) = shapley[name]
            assert_curve(line, epochs, [one["phi"][name]["value"] for one in history])
            count = len(epochs)
            assert_curve(band[:count], epochs, [one["phi"][name]["high"] for one in history])
            assert_curve(
                band[: -count - 1 : -1], epochs, [one["phi"][name]["low"] for one in history]
            )
            assert_curve(
                order[name][0][0], epochs, [one["order"].index(name) + 1 for one in history]
            )
        equal = [sum(p["value"] for p in one["phi"].values()) / 2 for one in history]
        assert_curve(shapley["equal split"][0][0], epochs, equal)
        assert_curve(edm["EDM"][0][0], epochs, [one["edm"]["value"] for one in history], 0.2)
        for name in history[0]["losses"]:
            assert_curve(losses[name][0][0], epochs, [one["losses"][name] for one in history], 0.01)
        nll = [one["nll"]["value"] for one in history]
        assert_curve(losses["validation NLL"][0][0], epochs, nll, 0.01)
    told = [text(title) for title in find(first, "title")]
    assert f"{NAMES[0]}, epoch 2: 0.22 (0.17 to 0.27)" in told
    test, last = entry(0.07), under_way[-1]
    for section, measured in ((first, test), (second, last)):
        (table,) = find(section, "table", class_="coalitions")
        for name, values in measured["values"].items():
            (row,) = (row for row in rows(table) if row[0] == name)
            assert row[2:] == [f"{100 * values['accuracy']:.1f}", f"{100 * values['macro_f1']:.1f}",
                               f"{values['nll']:.3f}"]  # fmt: skip
    (table,) = find(first, "table", class_="missing")
    assert rows(table)[1:] == [
        ["none", "67.0 (62.0 to 72.0)", ""],
        ["1 of 2", "45.0 (40.0 to 50.0)", f"worst with {NAMES[0]} left: 37.0 %"],
        ["any, mean", "44.0 (39.0 to 49.0)", "of all patterns"],
        ["30 % at random", "58.0 (53.0 to 63.0)", "25 % in effect"],
    ]
    head, done, going = rows(find(root, "table")[0])
    assert head[9:11] == [f"φ {name}" for name in NAMES]
    label = "x<script>& · mfeat · joint · concat · seed 4 · split 5"
    assert done[1:5] == [label, "finished, best epoch 2 of 3", "test", "67.0 (62.0 to 72.0)"]
    assert done[7:11] == ["23.0 (18.0 to 28.0)", "42.0", "0.270 (0.220 to 0.320)",
                          "0.370 (0.320 to 0.420)"]  # fmt: skip
    assert done[11] == "3.00"
    assert going[2:5] == ["under way, 2 of 20 epochs", "validation, epoch 2", "62.0 (57.0 to 67.0)"]
    links = [link[1]["href"] for link in find(find(root, "table")[0], "a")]
    assert links == ["../runs/a%26b%20%3C1%3E/", "../runs/under/"]


def assert_curve(curve, epochs, values, within=0.003):
    """Coordinates are rounded, and tick labels are exact."""
    assert [epoch for epoch, _ in curve] == pytest.approx(epochs, abs=0.01)
    assert [value for _, value in curve] == pytest.approx(values, abs=within)


def test_the_page_is_alone_and_nothing_in_it_is_taken_for_markup(tmp_path):
    run(tmp_path / "runs" / "</script><b>")
    html = page(read_records([str(tmp_path / "runs")]).records, tmp_path)
    root = Tree(html).root
    assert len(find(root, "script")) == 1
    assert {b[1].get("data-all") for b in find(root, "button")} == {"1", ""}
    for tag in ("link", "img", "iframe", "object"):
        assert not find(root, tag)
    assert "http://" not in html
    assert "https://" not in html
    assert not any("src" in script[1] for script in find(root, "script"))
    assert html == page(read_records([str(tmp_path / "runs")]).records, tmp_path)


def test_each_run_has_its_tick(tmp_path):
    for k in range(6):
        run(tmp_path / "runs" / str(k), epochs=k, finished=False)
    root = Tree(page(read_records([str(tmp_path / "runs")]).records, tmp_path)).root
    ticks = find(root, "input", type="checkbox")
    assert [tick[1]["data-run"] for tick in ticks] == [s[1]["id"] for s in find(root, "section")]
    assert ["checked" in tick[1] for tick in ticks] == [True] * 4 + [False] * 2
    assert "No epoch has ended yet." in text(find(root, "section")[0])


def test_undefined_numbers_are_gaps(tmp_path):
    run(tmp_path / "run", epochs=4, finished=False)
    path = tmp_path / "run" / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()[:4]]
    lines[1]["edm"] = {"value": None, "low": None, "high": None}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    root = Tree(page(read_records([str(tmp_path / "run")]).records, tmp_path)).root
    pieces, _ = curves(find(root, "figure")[1])["EDM"]
    assert [[epoch for epoch, _ in piece] for piece in pieces] == [[1], [3, 4]]


def test_a_damaged_run_is_told_and_left_out(tmp_path, monkeypatch, capsys):
    for name in ("good", "line", "results", "keys"):
        run(tmp_path / "runs" / name)
    lines = (tmp_path / "runs/line/history.jsonl").read_text("utf-8").splitlines()
    lines[1] = lines[1][:50]
    (tmp_path / "runs/line/history.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "runs/results/results.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "runs/keys/results.json").write_text('{"test": {}}', encoding="utf-8")
    monkeypatch.setattr(
        "sys.argv", ["x", f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'p.html'}"]
    )
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    told = capsys.readouterr().err
    assert f"mmeq: {tmp_path / 'runs/line/history.jsonl'}, line 2, is damaged" in told
    assert f"{tmp_path / 'runs/results/results.json'} is damaged: it is no JSON object" in told
    assert f"{tmp_path / 'runs/keys/results.json'} is damaged: it lacks 'game'" in told
    root = Tree((tmp_path / "p.html").read_text("utf-8")).root
    assert len(find(root, "section")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs"], "runs=runs"),
        (["rums=x"], "did you mean 'runs'"),
        (["runs=nowhere"], "nowhere is not there"),
        (["runs="], "runs= is empty"),
        (["output=x.html"], "give runs=<folder>"),
        (["runs=a", "project=me/x"], "give one of them"),
        (["runs=a", "output=a", "output=b"], "given 2 times"),
        (["project=mmeq"], "give <entity>/<project>"),
        (["runs=.", "output=other.html"], "was not written by mmeq"),
    ],
)
def test_mistakes(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.html").write_text("mine", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["x", *arguments])
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    assert said in capsys.readouterr().err
    assert (tmp_path / "other.html").read_text("utf-8") == "mine"


def test_a_page_that_cannot_be_written_is_told(tmp_path, monkeypatch, capsys):
    run(tmp_path / "run", epochs=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["x", "runs=run", "output=run/config.yaml/x.html"])
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    said = capsys.readouterr().err
    assert said.startswith("mmeq: run/config.yaml/x.html cannot be written (")
    assert said.count("\n") == 1


def test_a_page_is_written_again(tmp_path, monkeypatch, capsys):
    run(tmp_path / "run", epochs=1, finished=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["x", "runs=run"])
    for _ in range(2):
        with pytest.raises(SystemExit, match="0"):
            dashboard.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dashboard.html", "run"]
    assert (tmp_path / "dashboard.html").as_uri() in capsys.readouterr().out


def test_no_run_that_can_be_read_is_an_error(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run" / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(MmeqError, match=r"no run can be read\n.*results\.json is damaged"):
        read_records([str(tmp_path / "run")])
