"""``python -m mmeq.prepare`` as a person meets it, on real files."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from mmeq.config import conf_dir, groups
from mmeq.config.dataset import dataset_of
from mmeq.errors import MmeqError
from mmeq.prepare import with_media
from tests.corpora.cremad import write_cremad
from tests.e2e.running import fresh

SMALL = ("dataset=cremad", "dataset.audio.rate=16000", "dataset.video.resize=64")
SMALL += ("dataset.video.size=64",)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("cremad")
    write_cremad(root, actors=10, seconds=0.5, size=(48, 36))
    return root


def compose(*overrides):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("prepare", overrides=list(overrides))


@pytest.mark.slow
def test_real_files_prepared_give_the_batches_of_the_fly(corpus, warm, tmp_path):
    from mmeq.data.media.column import MediaColumn

    place = tmp_path / "place"
    given = (*SMALL, f"data_root={corpus}", f"prepared={place}")
    fly = dataset_of(compose(*given)).load()
    done = fresh("mmeq.prepare", *given, "prepare.workers=2", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert "120 clips decoded" in done.stdout
    assert "Traceback" not in done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ready = dataset_of(compose(*given)).load()
    assert any("not prepared" in note for note in fly.notes)
    assert not any("not prepared" in note for note in ready.notes)
    assert ready.ids == fly.ids
    rows = torch.arange(len(fly))
    for name in ("audio", "video"):
        one, two = fly.columns[name], ready.columns[name]
        assert isinstance(two, MediaColumn)
        assert two.store is not None
        for training in (False, True):
            first, second = (
                column.view(rows, None, training, torch.Generator().manual_seed(3))
                for column in (one, two)
            )
            assert first.any()
            assert first.equal(second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place"]
    again = warm("mmeq.prepare", *given, "prepare.part=1/1", cwd=tmp_path)
    assert again.status == 0, again.stderr
    assert "\n0 clips decoded" in again.stdout


@pytest.mark.slow
def test_what_is_lost_is_listed_and_the_exit_status_tells(corpus, warm, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(corpus, root)
    clips = sorted((root / "AudioWAV").glob("*.wav"))
    clips[0].write_bytes(b"")
    clips[1].unlink()
    clips[1].mkdir()
    clips[2].unlink()
    clips[2].symlink_to("/proc/self/mem")  # opens, and cannot be read
    given = ("dataset=cremad", "dataset.modalities=[audio]", f"data_root={root}")
    done = warm("mmeq.prepare", *given, cwd=tmp_path)
    assert done.status == 1, done.stderr
    assert f"audio: AudioWAV/{clips[0].name} is broken: empty file" in done.stdout
    assert f"audio: AudioWAV/{clips[1].name} is broken: a folder in place of a file" in done.stdout
    assert f"audio: AudioWAV/{clips[2].name} could not be read" in done.stdout
    assert f"all are in {root / 'mmeq-prepared' / 'broken-cremad.csv'}" in done.stdout
    assert "not all is done" in done.stdout
    clips[1].rmdir()
    clips[2].unlink()
    for clip in clips[1:3]:
        shutil.copyfile(clips[3], clip)
    done = warm("mmeq.prepare", *given, "prepare.on_broken=raise", cwd=tmp_path)
    assert done.status == 2
    assert f"mmeq: audio: AudioWAV/{clips[0].name} is broken: empty file; what is" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_datasets_with_media_are_known():
    found = set(with_media())
    assert {"cremad", "iemocap", "mvsa", "kinetics400", "vggsound"} <= found
    assert not {"mfeat", "brca", "emoji", "synthetic", "mosei"} & found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "mmeq: dataset is missing: give dataset=<name> (one of: ave, "),
        (["dataset=cremda"], "there is no dataset=cremda; did you mean 'cremad'?"),
        (["dataset=mfeat"], "dataset=mfeat with modalities fou, zer, mor has no media files"),
        (["dataset=cremad"], "data_root is missing: give data_root=<folder of cremad>"),
        (["dataset=cremad", "data_root=none"], "none: there is no such folder"),
        (["dataset=cremad", "dataset.audio.rat=8"], "no option dataset.audio.rat; did you mean"),
        (["dataset=cremad", "+dataset.audio.rat=8"], "no option dataset.audio.rat; did you mean"),
        (["dataset=cremad", "prepare.part=0/16"], "prepare.part=0/16: give <i>/<n> with i from 1"),
        (["dataset=cremad", "prepare.part=3"], "prepare.part=3 does not fit: give text"),
        (["dataset=cremad", "prepare.workers=x"], "prepare.workers='x' does not fit: give a whole"),
        (["dataset=cremad", "prepare.on_broken=rais"], "did you mean 'raise'?"),
        (["dataset=cremad", "+prepare.parts=3"], "no option prepare.parts; did you mean 'part'?"),
        (["dataset=cremad", "prepare=3"], "prepare=3: give its options"),
        (["dataset=cremad", "+seed=3"], "there is no option seed"),
        (["dataset=cremad", "method=joint"], "there is no option method (one of: backbone, data"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_told_without_a_traceback(arguments, says, warm, tmp_path):
    done = warm("mmeq.prepare", *arguments, cwd=tmp_path)
    assert done.status == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_and_the_configuration_are_shown(warm, tmp_path):
    done = warm("mmeq.prepare", "--help", cwd=tmp_path)
    assert done.status == 0
    for word in ("prepare.workers", "prepare.part=3/16", "prepare.on_broken", "prepared=<folder>"):
        assert word in done.stdout
    done = warm("mmeq.prepare", "--cfg", "job", "dataset=cremad", cwd=tmp_path)
    assert done.status == 0
    assert "on_broken: report" in done.stdout


def test_a_part_of_the_command_line_is_a_text():
    assert compose("prepare.part=3/16").prepare.part == "3/16"


@pytest.mark.parametrize("name", groups()["dataset"])
def test_every_dataset_is_built_from_its_yaml_without_data(name, tmp_path):
    given = [f"dataset={name}"]
    if name == "manifest":
        (tmp_path / "own.csv").write_text("label,words\na,b\n")
        given.append(f"dataset.path={tmp_path / 'own.csv'}")
    assert dataset_of(compose(*given)).modalities


def test_all_mistakes_of_a_dataset_are_told_at_once():
    cfg = compose("dataset=mfeat", "+dataset.sed=1", "dataset.train_size=x")
    with pytest.raises(MmeqError, match=r"2 mistakes(.|\n)*dataset.train_size='x'(.|\n)*sed"):
        dataset_of(cfg)
    with pytest.raises(MmeqError, match="data_root=3 does not fit: give the path of a folder"):
        dataset_of(compose("dataset=mfeat", "data_root=3"))
    with pytest.raises(MmeqError, match=r"dataset: dataset 'mfeat' has no modality 'fu'; did"):
        dataset_of(compose("dataset=mfeat", "dataset.modalities=[fu]"))
