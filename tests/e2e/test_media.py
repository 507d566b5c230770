"""Every dataset of media on disk: trained from its official layout, on the fly and prepared."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from e2e.running import difference, history, results, timeless

from tests.corpora import (
    damage,
    write_ave,
    write_cremad,
    write_food101,
    write_iemocap,
    write_kinetics,
    write_mosei,
    write_mvsa,
    write_ucf101,
    write_ur_funny,
    write_vggsound,
)

PICTURE = ("resize=40", "size=32")
SOUND = ("seconds=1.0",)
TINY = ("batch_size=8", "backbone.dim=16", "trainer.max_epochs=2")
CORPORA = {
    "cremad": (write_cremad, {"actors": 10}, {"audio": SOUND, "video": PICTURE}),
    "iemocap": (
        write_iemocap,
        {"codes": ("neu", "ang", "sad", "hap", "exc", "xxx"), "each": 2},
        {"audio": SOUND, "video": PICTURE},
    ),
    "mvsa": (write_mvsa, {"each": 6}, {"image": PICTURE}),
    "kinetics_sounds": (
        write_kinetics,
        {"train": 6, "val": 2},
        {"audio": SOUND, "video": PICTURE},
    ),
    "ave": (write_ave, {"train": 6, "val": 2, "test": 2}, {"audio": SOUND, "video": PICTURE}),
    "ucf101": (write_ucf101, {"groups": 12, "clips": 1}, {"rgb": PICTURE, "flow": PICTURE}),
    "food101": (write_food101, {"train": 8, "test": 3}, {"image": PICTURE}),
    "vggsound": (write_vggsound, {"train": 8, "test": 3}, {"audio": SOUND, "video": PICTURE}),
    "mosei": (write_mosei, {}, {}),
    "ur_funny": (write_ur_funny, {}, {}),
}


def options_of(dataset, root, facts):
    formats = CORPORA[dataset][2]
    wanted = []
    if dataset.startswith("kinetics"):  # the corpora have three of its classes
        known = [repr(one) for one in facts["classes"]]
        wanted = [f"dataset.classes=[{','.join(known)}]", "dataset.validation=0.3"]
    return [
        *wanted,
        f"dataset={dataset}",
        f"data_root={root}",
        *TINY,
        *(f"dataset.{name}.{one}" for name, many in formats.items() for one in many),
    ]


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request, tmp_path_factory):
    write, sizes, _ = CORPORA[request.param]
    root = tmp_path_factory.mktemp(request.param) / "release"
    return request.param, root, write(root, **sizes)


def predictions(folder):
    with np.load(folder / "predictions" / "test.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


SAME_KINDS = ("ave", "food101", "kinetics_sounds", "vggsound")
"""Sets whose kinds and decoding are those of another one here: they are trained, and no more."""


@pytest.mark.slow
def test_prepared_and_on_the_fly_are_the_same(corpus, warm, tmp_path):
    dataset, root, facts = corpus
    options = options_of(dataset, root, facts)
    media = bool(CORPORA[dataset][2])
    done = warm("mmeq.train", *options, f"hydra.run.dir={tmp_path / 'fly'}", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert ("are not prepared" in done.stderr) == media, done.stderr
    said = results(tmp_path / "fly")
    assert said["test"]["samples"] > 0
    if dataset in SAME_KINDS:
        assert media
        return
    if not media:
        refused = warm("mmeq.prepare", *options[:2], cwd=tmp_path)
        assert refused.status == 2
        assert "nothing to prepare" in refused.stderr
        return
    given = [one for one in options if one.startswith("data")]
    prepare = warm("mmeq.prepare", *given, "prepare.workers=1", cwd=tmp_path)
    assert prepare.status == 0, prepare.stderr
    done = warm("mmeq.train", *options, f"hydra.run.dir={tmp_path / 'ready'}", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "are not prepared" not in done.stderr
    assert (
        difference(timeless(history(tmp_path / "fly")), timeless(history(tmp_path / "ready")))
        is None
    )
    one, two = predictions(tmp_path / "fly"), predictions(tmp_path / "ready")
    assert one.keys() == two.keys()
    for name, array in one.items():
        assert np.array_equal(array, two[name], equal_nan=array.dtype.kind == "f"), name
    assert np.isfinite(one["logits"]).all()
    shown = warm("mmeq.inspect", *given, f"output={tmp_path / 'look'}", cwd=tmp_path)
    assert shown.status == 0, shown.stderr
    assert (tmp_path / "look" / "contact.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "look" / "inspect.json").read_text("utf-8"))


@pytest.mark.slow
def test_damaged_files_are_told_by_name_and_left_out(warm, tmp_path):
    root = tmp_path / "release"
    options = options_of("cremad", root, write_cremad(root, actors=10))
    films, sounds = (sorted((root / name).iterdir()) for name in ("VideoFlash", "AudioWAV"))
    damage.truncate(films[3], 0.02)
    damage.wrong_extension(films[10])
    damage.empty(films[20])
    damage.empty(sounds[5])
    damage.empty(sounds[20])  # nothing is left of this one
    films[30].unlink()
    given = [one for one in options if one.startswith("data")]
    raised = warm("mmeq.prepare", *given, "prepare.on_broken=raise", cwd=tmp_path)
    assert raised.status == 2
    assert raised.stderr.count("mmeq: ") >= 1
    done = warm("mmeq.prepare", *given, "prepare.workers=2", cwd=tmp_path)
    assert done.status == 0, done.stderr
    for path in (films[3], films[10], films[20], films[30], sounds[5], sounds[20]):
        assert path.name in done.stdout, f"{path.name} is not told:\n{done.stdout}"
    tables = list((root / "mmeq-prepared").glob("broken-*.csv"))
    rows = [row for path in tables for row in csv.DictReader(path.open(encoding="utf-8"))]
    assert len(rows) == 6
    trained = warm("mmeq.train", *options, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert trained.status == 0, trained.stderr
    assert "are not prepared" not in trained.stderr
    assert "1 samples are left out" in trained.stderr
    assert sounds[20].stem in trained.stderr
    assert "3 files are broken" in trained.stderr
    assert "1 files are missing" in trained.stderr


@pytest.mark.slow
def test_a_run_is_opened_from_any_folder_and_with_data_that_were_moved(warm, tmp_path):
    (tmp_path / "here").mkdir()
    facts = write_mvsa(tmp_path / "release", each=6)
    options = options_of("mvsa", "../release", facts)
    run = tmp_path / "run"
    done = warm("mmeq.train", *options, f"hydra.run.dir={run}", cwd=tmp_path / "here")
    assert done.status == 0, done.stderr
    again = warm("mmeq.eval", f"run={run}", "accelerator=cpu", cwd=tmp_path)
    assert "agrees with results.json exactly" in again.stdout, again.stderr
    (tmp_path / "release").rename(tmp_path / "moved")
    lost = warm("mmeq.eval", f"run={run}", "accelerator=cpu", cwd=tmp_path)
    assert lost.status == 2
    assert "there is no such folder" in lost.stderr
    told = [f"run={run}", "data_root=moved", "accelerator=cpu"]
    again = warm("mmeq.eval", *told, cwd=tmp_path)
    assert "agrees with results.json exactly" in again.stdout, again.stderr


def test_weights_are_not_used_for_other_classes_of_the_same_number(warm, tmp_path):
    table = tmp_path / "mine.csv"
    rows = [f"s{n},{'ab'[n % 2]},{['red', 'blue'][n % 2]} {n},more {n % 5}" for n in range(40)]
    table.write_text("\n".join(["id,label,words,others", *rows]))
    run = tmp_path / "run"
    options = ("dataset=manifest", f"dataset.path={table}", *TINY)
    done = warm("mmeq.train", *options, f"hydra.run.dir={run}", cwd=tmp_path)
    assert done.status == 0, done.stderr
    table.write_text(table.read_text().replace(",a,", ",c,"))
    for command in (("mmeq.eval",), ("mmeq.predict", "output=p.npz")):
        refused = warm(*command, f"run={run}", "accelerator=cpu", cwd=tmp_path)
        assert refused.status == 2
        assert "trained with classes a, b; the data have b, c now" in refused.stderr
    assert not (tmp_path / "p.npz").exists()
