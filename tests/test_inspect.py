"""The command that looks at a dataset: what it prints, writes and draws; what it refuses."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

from mmeq import inspect
from mmeq.data.columns import TextColumn, VectorColumn
from mmeq.data.media.preparing import prepare
from mmeq.data.media.showing import Picture
from mmeq.data.releases.cremad import CremaD
from mmeq.reporting.lettering import BOX, drawable, fitted
from mmeq.reporting.samples import Row, contact_sheet
from tests.corpora.cremad import write_cremad
from tests.data.test_inspection import build
from tests.e2e.running import fresh

THIRDS = (0.34, 0.33, 0.33)
FILES = {"contact.png", "counts.png", "inspect.json", "classes.csv"}


def looked(manifest, folder, samples=4, seed=0):
    report, rows, measures = inspect.look(manifest, samples, seed)
    inspect.write(folder, report, rows, measures)
    return report, "\n".join(inspect.told(report))


@pytest.mark.slow
def test_a_bundled_dataset_from_the_command_line(tmp_path):
    done = fresh(
        "mmeq.inspect", "dataset=emoji", "samples=5", "dataset.grouped=false", cwd=tmp_path
    )
    assert done.status == 0, done.stderr
    folder = tmp_path / "inspect" / "emoji"
    assert {path.name for path in folder.iterdir()} == FILES | {"lengths.png"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != folder]
    report = json.loads((folder / "inspect.json").read_text())
    assert report["samples"] == 1906
    assert report["parts"] == {"train": 1143, "validation": 382, "test": 381}
    assert len(report["drawn"]) == 5
    assert len({one["class"] for one in report["drawn"]}) == 5
    with (folder / "classes.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["name"] for row in table] == report["dataset"]["classes"]
    assert sum(int(row["total"]) for row in table) == 1906
    said = done.stdout
    assert "1906 samples (1143 train, 382 validation, 381 test)" in said
    assert "every sample has every modality" in said
    assert said.index("Look at") < said.index("results will flatter")
    assert "in inspect/emoji" in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "dataset is missing: give dataset=<name>"),
        (["dataset=emojy"], "did you mean 'emoji'?"),
        (["dataset=emoji", "dataset.siz=8"], "did you mean 'size'?"),
        (["dataset=emoji", "sampels=8"], "did you mean 'samples'?"),
        (["dataset=emoji", "samples=101"], "samples=101: give a whole number from 0 to 100"),
        (["dataset=emoji", "seed=-1"], "seed=-1: give a whole number"),
        (["dataset=emoji", "output=taken"], "output=taken is a file"),
        (["dataset=emoji", "data_root=3"], "data_root=3 does not fit"),
    ],
)
def test_mistakes(arguments, said, warm, tmp_path):
    (tmp_path / "taken").write_text("mine")
    done = warm("mmeq.inspect", *arguments, cwd=tmp_path)
    assert done.status == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_a_message(warm, tmp_path):
    (tmp_path / "taken").write_text("mine")
    given = ("dataset=synthetic", "samples=0", "output=taken/deeper")
    done = warm("mmeq.inspect", *given, cwd=tmp_path)
    assert done.status == 2
    assert "output=taken/deeper cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_tells_every_option(warm, tmp_path):
    done = warm("mmeq.inspect", "--help", cwd=tmp_path)
    assert done.status == 0
    for option in ("dataset=", "data_root=", "prepared=", "output=", "samples=", "seed="):
        assert f"\n{option}" in done.stdout
    assert not list(tmp_path.iterdir())


def gappy():
    """Texts that fonts and mathematics stumble over, gaps, and a class without a sample."""
    texts = ["$x_1 \\nope {$ costs", "日本語 😀\twith\nnewlines", "", "W" * 400, "a", "b"]
    present = torch.ones(6, 2, dtype=torch.bool)
    present[1, 1] = present[4, 0] = False
    return build(
        [0, 1, 0, 1, 0, 1],
        ["train", "train", "train", "train", "test", "test"],
        present,
        {"words": TextColumn(texts), "$v\\nope$": VectorColumn(torch.randn(6, 4))},
        {"words": "text", "$v\\nope$": "vector"},
        notes=("modality 'words': 1 files are missing: x.txt",),
    )


def test_gaps_and_notes_are_told_and_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, said = looked(gappy(), tmp_path)
    assert "1 of 4" in said
    assert "1 × words\n" in said
    assert "modality 'words': 1 files are missing: x.txt" in said
    assert "the validation part has no sample of x, y, z" in said
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"lengths.png"}
    for path in tmp_path.glob("*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path
    assert json.loads((tmp_path / "inspect.json").read_text()) == report


def test_what_was_drawn_before_and_is_not_now_goes(tmp_path):
    looked(gappy(), tmp_path)
    (tmp_path / "mine.txt").write_text("stays")
    looked(build([0, 1, 2], ["train", "test", "train"]), tmp_path, samples=0)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == (FILES - {"contact.png"}) | {"mine.txt"}


def test_of_many_classes_the_ends_are_printed_and_all_are_in_the_csv(tmp_path):
    sizes = [1 + n % 50 for n in range(400)]
    labels = torch.repeat_interleave(torch.arange(400), torch.tensor(sizes))
    count = len(labels)
    manifest = build([0] * count, ["train"] * count)
    names = tuple(f"class{n:03d}" for n in range(400))
    from dataclasses import replace

    manifest = replace(manifest, labels=labels, spec=replace(manifest.spec, classes=names))
    report, said = looked(manifest, tmp_path, samples=2)
    shown = [line.split() for line in said.splitlines() if line.startswith("  class")]
    assert len(shown) == 20
    (rest,) = [line for line in said.splitlines() if "380 more" in line]
    total = sum(int(line[-1]) for line in shown) + int(rest.split()[-1])
    assert total == count == report["samples"]
    assert [int(line[-1]) for line in shown[:10]] == sorted(sizes, reverse=True)[:10]
    assert [int(line[-1]) for line in shown[10:]] == sorted(sizes, reverse=True)[-10:]
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 401


def test_a_sheet_says_what_is_missing_and_what_is_broken():
    rows = [
        Row("one", "x", "train", [Picture("missing"), Picture("text", text="hello $there$")]),
        Row("two", "y", "test", [Picture("broken", text="cut off"), Picture("missing")]),
    ]
    figure = contact_sheet("title", [("a", "audio"), ("b", "text")], rows, ("red",))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sorted(texts) == ["broken: cut off", "hello $there$", "missing", "missing"]
    beside = "\n".join(text.get_text() for text in figure.texts)
    for word in ("title", "one", "x\ntrain", "two", "y\ntest", "a", "audio", "b"):
        assert word in beside
    hatched = [p.get_hatch() for axes in figure.axes for p in axes.patches if p.get_hatch()]
    assert len(hatched) == 3


def test_the_scale_of_a_column_stands_under_its_lowest_cell():
    sound = Picture("map", np.random.rand(4, 9), across="s", along="kHz", span=(0.0, 3.0))
    rows = [Row("a", "x", "train", [sound]), Row("b", "x", "train", [Picture("missing")])]
    figure = contact_sheet("t", [("a", "audio")], rows, ("red",))
    FigureCanvasAgg(figure).draw()
    upper, lower = figure.axes
    assert upper.get_ylabel() == "kHz"
    assert not upper.get_xlabel()
    assert lower.get_xlabel() == "s"
    assert lower.get_xlim() == (0.0, 3.0)


def test_maps_of_a_column_share_their_colours_and_silence_does_not_count():
    loud, soft = np.full((4, 100), 50.0), np.full((4, 100), np.nan)
    loud[:, :5] = np.linspace(0, 8, 20).reshape(4, 5)
    soft[:, :5] = np.linspace(0, 4, 20).reshape(4, 5)
    rows = [Row("a", "x", "train", [Picture("map", values)]) for values in (loud, soft)]
    figure = contact_sheet("t", [("a", "audio")], rows, ("red",))
    (low, high), other = (axes.images[0].get_clim() for axes in figure.axes)
    assert (low, high) == other
    assert 0 <= low < 0.2
    assert 7 < high < 8


@given(st.text(max_size=80), st.floats(0.5, 4.0), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_fitted_text_fits(text, inches, most):
    lines = fitted(text, inches, 10, most).split("\n")
    assert len(lines) <= most
    font = FontProperties(family="DejaVu Sans", size=10)
    for line in lines:
        # ink may reach a little beyond the advance
        width = TextPath((0, 0), line, prop=font, usetex=False).get_extents().width if line else 0
        assert width <= inches * 72 + 2
    whole = fitted(text, 1e6, 10, 1)
    assert whole == drawable(text)
    if "…" not in "".join(lines):
        assert "".join(lines).replace(" ", "") == whole.replace(" ", "")


def test_characters_that_the_font_lacks_are_boxes():
    assert drawable("a\n b\t日🦊é") == f"a b {BOX}{BOX}é"


@pytest.fixture(scope="module")
def cremad(tmp_path_factory):
    root = tmp_path_factory.mktemp("cremad")
    return root, write_cremad(root, actors=3)


@pytest.mark.slow
def test_real_clips_are_shown_as_the_encoders_get_them(cremad, tmp_path):
    root, facts = cremad
    manifest = CremaD(str(root), fractions=THIRDS).load()
    report, rows, measures = inspect.look(manifest, 2, 0)
    sound, film = rows[0].pictures
    assert (sound.form, sound.across, sound.along) == ("map", "s", "kHz")
    assert sound.span == pytest.approx((0, 188 * 353 / 22050))
    assert sound.rise == (0, 11.025)
    row = manifest.ids.index(rows[0].id)
    batch = manifest.columns["audio"].batch(torch.tensor([row]))[0]
    np.testing.assert_array_equal(sound.values, batch.numpy())
    assert film.form == "frames"
    assert film.values.shape == (3, 224, 224, 3)
    lengths = {one.modality: np.sort(one.values) for one in measures if one.what == "seconds"}
    real = np.sort([facts["seconds"][one] for one in facts["ids"]])
    np.testing.assert_allclose(lengths["audio"], real, atol=0.02)
    np.testing.assert_allclose(lengths["video"], real, atol=0.15)  # a frame, and the mp3's frames
    said = "\n".join(inspect.told(report))
    assert "official release has 7,442" in said
    assert "clips are not prepared" in said

    again = CremaD(str(root), str(tmp_path), fractions=THIRDS)
    prepare(again, workers=1)
    report_2, rows_2, measures_2 = inspect.look(again.load(), 2, 0)
    for one, other in zip(measures, measures_2, strict=True):
        np.testing.assert_allclose(one.values, other.values)
    for one, other in zip(rows[0].pictures, rows_2[0].pictures, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert "clips are not prepared" not in "\n".join(report_2["notes"])


@pytest.mark.slow
def test_a_clip_that_breaks_while_it_is_drawn_is_named(cremad, tmp_path):
    root, _ = cremad
    manifest = CremaD(str(root), fractions=THIRDS).load()
    name = next(i for i, part in zip(manifest.ids, manifest.split, strict=True) if part == "train")
    path = root / "VideoFlash" / f"{name}.flv"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:200])
        report, said = looked(manifest, tmp_path, samples=len(manifest))
    finally:
        path.write_bytes(whole)
    (broken,) = report["undecodable"]
    assert (broken["id"], broken["modality"]) == (name, "video")
    assert f"{name}: video: " in said
    assert "cannot be decoded" in said
    assert (tmp_path / "contact.png").is_file()
