"""Predictions for own media, given as a table of files: the run's own test rows, gaps, mistakes."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from mmeq.config import build, conf_dir, runs, validate
from mmeq.data.datamodule import DataModule
from mmeq.data.own.dataset import OwnData
from mmeq.data.own.unlabelled import OwnTable
from mmeq.errors import MmeqError
from mmeq.game import read_predictions
from mmeq.predict import predict
from mmeq.train import fit
from tests.corpora.cremad import write_cremad
from tests.corpora.media import write_image, write_video

SHORT = [
    "debug=fast_dev", "trainer.limit_test_batches=null", "trainer.accelerator=cpu",
    "callbacks.figures=null", "callbacks.missing=null", "callbacks.console=null",
    "backbone.dim=16", "batch_size=4",
]  # fmt: skip
SOUND = ["dataset.audio.seconds=0.5", "dataset.audio.rate=8000"]
PICTURE = ["dataset.video.resize=40", "dataset.video.size=32"]
PHOTO = ["dataset.image.resize=40", "dataset.image.size=32"]
COUNT = 18
TESTED = range(12, COUNT)
FILES = {"clip": "clips/{}.mp4", "photo": "photos/{}.png", "sensor": "sensors/{}.npy"}
NAMES = ("clip_video", "clip_audio", "photo", "sensor", "said", "body")


def composed(config_name, *overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(config_name, overrides=list(map(str, overrides)))


def trained(folder, *overrides):
    cfg = composed("train", *SHORT, *overrides)
    validate(cfg)
    run = build(cfg, folder)
    runs.claim(folder, cfg, list(overrides), resume=False)
    fit(run, resume=False)
    return folder


def write(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(numbers):
    return [
        {
            "id": f"row {n}",
            "label": "ab"[n % 2],
            **{name: place.format(n) for name, place in FILES.items()},
            "said": f"the words of {n}",
            "age": 20 + n,
            "pay": 1000 * (n % 5),
        }
        for n in numbers
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run on own media of six modalities, one of whose test samples has a silent film."""
    folder = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    (folder / "sensors").mkdir()
    for n in range(COUNT):
        tone = (9000 * np.sin(np.arange(8000) * (0.05 + 0.02 * n))).astype(np.int16)
        frames = random.integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
        sound = None if n == 13 else (tone, 8000)
        write_video(folder / FILES["clip"].format(n), frames, 8, sound=sound)
        write_image(folder / FILES["photo"].format(n), frames[0])
        np.save(folder / FILES["sensor"].format(n), random.normal(size=(2 + n % 3, 5)))
    rows = rows_of(range(COUNT))
    for n, row in enumerate(rows):
        row["split"] = "test" if n in TESTED else "val" if n in (3, 4) else "train"
    write(folder / "all.csv", rows)
    run = trained(
        folder / "run",
        "dataset=manifest",
        f"dataset.path={folder / 'all.csv'}",
        "dataset.kinds={clip: [video, audio]}",
        "dataset.vectors={body: [age, pay]}",
        *SOUND,
        *PICTURE,
        *PHOTO,
    )
    return folder, run


def predicted(run, *options):
    out = run.parent / "out.npz"
    out.unlink(missing_ok=True)
    cfg = composed("predict", f"run={run}", f"output={out}", "accelerator=cpu", *options)
    predict.__wrapped__.__wrapped__(cfg)
    return read_predictions(out)


def same(one, other, rows=slice(None)):
    for name in ("logits", "labels", "present", "ids"):
        assert np.array_equal(one[name], other[name][rows]), name


def test_the_runs_own_test_rows_give_the_same_predictions(home, capsys):
    folder, run = home
    kept = predicted(run, "split=test")
    assert kept["modalities"].tolist() == list(NAMES)
    assert kept["present"].sum(0).tolist() == [6, 5, 6, 6, 6, 6]
    rows = rows_of(TESTED)
    same(predicted(run, f"data={write(folder / 'new.csv', rows)}"), kept)
    assert "modality 'clip_audio': 1 files are absent: clips/13.mp4 has no such track" in (
        capsys.readouterr().out
    )
    lines = "\n".join(json.dumps({k: v for k, v in row.items() if k != "label"}) for row in rows)
    (folder / "new.jsonl").write_text(lines)
    unknown = predicted(run, f"data={folder / 'new.jsonl'}", "batch_size=5")
    assert np.allclose(unknown["logits"], kept["logits"], atol=1e-5)
    assert set(unknown["labels"]) == {-1}


def test_columns_may_be_called_as_the_modalities(home):
    folder, run = home
    kept = predicted(run, "split=test")
    rows = rows_of(TESTED)
    for n, row in zip(TESTED, rows, strict=True):
        row["clip_video"] = row["clip_audio"] = row.pop("clip")
        np.save(folder / f"body{n}.npy", [row.pop("age"), row.pop("pay")])
        row["body"] = f"body{n}.npy"
    same(predicted(run, f"data={write(folder / 'named.csv', rows)}"), kept)


def test_what_is_missing_or_broken_is_told_and_absent(home, capsys):
    folder, run = home
    kept = predicted(run, "split=test")
    (folder / "bad").mkdir()
    (folder / "bad" / "cut.mp4").write_bytes((folder / "clips/12.mp4").read_bytes()[:300])
    (folder / "bad" / "no.png").write_bytes(b"no image")
    np.save(folder / "bad" / "wide.npy", np.zeros((2, 7)))
    film = np.random.default_rng(1).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    half = folder / "bad" / "half.avi"
    tone = (9000 * np.sin(np.arange(8000) * 0.1)).astype(np.int16)
    write_video(half, film, 8, sound=(tone, 8000), sound_codec="pcm_s16le")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])  # its header is sound
    rows = rows_of(TESTED)
    rows[0]["clip"], rows[0]["label"] = "bad/cut.mp4", ""
    rows[1] |= {"photo": "bad/no.png", "sensor": "bad/wide.npy"}
    rows[2] |= {"said": "", "sensor": "bad/gone.npy"}
    rows[3]["clip"] = "bad/half.avi"
    rows[4] |= dict.fromkeys(("said", "sensor", "age", "pay", "clip"), "")
    rows[4]["photo"] = "photos/gone.png"
    for row in rows:
        row["weather"] = "fine"
    capsys.readouterr()
    found = predicted(run, f"data={write(folder / 'gaps.csv', rows)}", "per_sample_shapley=true")
    said = capsys.readouterr().out
    for text in (
        "columns that are not used: weather",
        "modality 'clip_video': 2 files are absent: bad/cut.mp4: ",
        "; bad/half.avi: truncated",
        "bad/no.png: ",
        "photos/gone.png is missing",
        "bad/wide.npy has 7 features, the run's 'sensor' 5; bad/gone.npy is missing",
        "1 samples are left out, since none of their modalities can be used: row 16",
        "5 samples × 63 coalitions × 2 classes",
    ):
        assert text in said, text
    assert found["ids"].tolist() == [f"row {n}" for n in TESTED if n != 16]
    assert found["labels"].tolist() == [-1, 1, 0, 1, 1]
    assert found["present"].tolist() == [
        [False, False, True, True, True, True],
        [True, False, False, False, True, True],
        [True, True, True, False, False, True],
        [False, True, True, True, True, True],
        [True, True, True, True, True, True],
    ]
    # row 12 without its clip is what the others of it say
    member = found["coalitions"]
    without = next(s for s, row in enumerate(member.tolist()) if row == [False] * 2 + [True] * 4)
    assert np.allclose(found["logits"][0, -1], kept["logits"][0, without], atol=1e-5)
    assert np.abs(found["phi"][0, :2]).max() < 1e-8
    assert np.allclose(found["logits"][4], kept["logits"][5], atol=1e-5)


def test_a_modality_without_a_column_is_absent(home):
    folder, run = home
    kept = predicted(run, "split=test")
    rows = [{"said": row["said"], "photo": row["photo"]} for row in rows_of(TESTED)]
    found = predicted(run, f"data={write(folder / 'two.csv', rows)}")
    assert found["ids"].tolist() == [str(n) for n in range(1, 7)]
    assert found["present"].tolist() == [[False, False, True, False, True, False]] * 6
    both = next(
        s
        for s, row in enumerate(kept["coalitions"].tolist())
        if row == [False, False, True, False, True, False]
    )
    assert np.allclose(found["logits"][:, -1], kept["logits"][:, both], atol=1e-5)


def test_what_is_absent_is_zeros(home):
    folder, _ = home
    kinds = {"clip": {"film": "video"}}
    path = folder / "all.csv"
    data = OwnData(str(path), kinds=kinds, vectors={"body": ["age", "pay"]})
    module = DataModule(data)
    module.setup()
    rows = [{"said": "a", "age": 9}, {"body": "sensors/0.npy", "film": "clips/0.mp4"}]
    rows[0] |= {"film": "", "body": "", "sensor": "sensors/1.npy"}
    table = OwnTable(write(folder / "new.csv", rows), data)
    manifest = table.manifest(module.spec, module.statistics)
    assert manifest.present.tolist() == [
        [False, False, True, True, False],
        [True, False, False, False, False],
    ]
    assert "sensors/0.npy has the shape [2, 5]: a vector is [F]" in "".join(manifest.notes)
    assert not manifest.columns["body"].values.any()
    assert manifest.columns["sensor"].length.tolist() == [3, 0]
    assert manifest.columns["sensor"].values[0].any()
    assert not manifest.columns["sensor"].values[1].any()
    assert manifest.columns["said"].texts == ["a", ""]
    films = manifest.columns["film"].batch(torch.tensor([0, 1]))
    assert films.flatten(1).any(1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "c"}, "new.csv, line 2: the label 'c' is no class of the run"),
        ({"id": "row 13"}, "new.csv, line 3: the id 'row 13' is that of line 2 too"),
        ({"photo": "../x.png"}, "new.csv, line 2: the path '../x.png' leads out of"),
        ({"photo": "../x.png"}, "write new.csv into a folder above all of its files"),
        ({"photo": "http://x.org/a.png"}, "line 2: 'http://x.org/a.png' is an address"),
        ({"pay": "much"}, "new.csv, line 2: 'pay' is 'much', expected a number"),
    ],
)
def test_mistakes_in_a_row(home, changes, says):
    folder, run = home
    rows = rows_of(TESTED)
    rows[0] |= changes
    with pytest.raises(MmeqError, match=re.escape(says)):
        predicted(run, f"data={write(folder / 'new.csv', rows)}")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"photo": "Photo"}, "there is no column 'photo', and 'Photo' is nothing that the run"),
        (dict.fromkeys(("clip", "photo", "said", "sensor", "age"), ""), "no modality of the run"),
    ],
)
def test_mistakes_in_the_columns_come_before_the_runs_data_are_read(home, columns, says):
    folder, run = home
    rows = [
        {columns.get(key, key): value for key, value in row.items() if columns.get(key, key)}
        for row in rows_of(TESTED)
    ]
    write(folder / "new.csv", rows)
    away = folder / "away"
    (folder / "clips").rename(away)  # nothing could be trained without them
    try:
        with pytest.raises(MmeqError, match=re.escape(says)):
            predicted(run, f"data={folder / 'new.csv'}")
    finally:
        away.rename(folder / "clips")


def test_nothing_that_can_be_predicted(home):
    folder, run = home
    path = write(folder / "new.csv", [{"photo": "none.png"}, {"photo": "photos/nine.png"}])
    with pytest.raises(MmeqError, match=r"no sample has .* \(the first: none.png is missing\)"):
        predicted(run, f"data={path}")
    with pytest.raises(MmeqError, match=r"data=.*gone.csv: there is no such file"):
        predicted(run, f"data={folder / 'gone.csv'}")


@pytest.mark.slow
def test_a_run_on_a_release(tmp_path, capsys):
    root = tmp_path / "release"
    write_cremad(root, actors=6)
    fractions = "dataset.fractions=[0.34,0.33,0.33]"
    run = trained(
        tmp_path / "run", "dataset=cremad", f"data_root={root}", fractions,
        "dataset.audio.seconds=1.0", *PICTURE,
    )  # fmt: skip
    kept = predicted(run, "split=test")
    rows = [
        {
            "id": name,
            "label": str(kept["classes"][label]),
            "audio": f"AudioWAV/{name}.wav",
            "video": f"VideoFlash/{name}.flv",
        }
        for name, label in zip(kept["ids"], kept["labels"], strict=True)
    ]
    same(predicted(run, f"data={write(root / 'test.csv', rows)}"), kept)

    # elsewhere, a file of the same name, size and time is not taken for that of the release
    other = tmp_path / "other"
    shutil.copytree(root / "AudioWAV", other / "AudioWAV")
    (looks,) = (root / "mmeq-prepared").glob("looks-audio-*.jsonl")
    assert looks.is_file()
    before = looks.read_bytes()
    (other / "AudioWAV" / f"{rows[0]['id']}.wav").write_bytes(b"RIFF")
    for row in rows:
        del row["video"]
    capsys.readouterr()
    found = predicted(run, f"data={write(other / 'test.csv', rows)}")
    assert len(found["ids"]) == len(rows) - 1
    assert f"can be used: {rows[0]['id']}" in capsys.readouterr().out
    assert np.allclose(found["logits"][:, 0], kept["logits"][1:, 0], atol=1e-5)
    assert looks.read_bytes() == before
    arrays = tmp_path / "x.npz"
    np.savez(arrays, audio=np.zeros((2, 3)))
    with pytest.raises(MmeqError, match=r"give a table of files with a column 'audio'"):
        predicted(run, f"data={arrays}")
