"""Rebuilds emoji.npz (Noto images and English names) from two npm packages.

The images are encoded anew, so the same bytes need the same encoder: the registry's sum was made
with libwebp 1.6.0 as in Pillow 13.0.0.
"""

from __future__ import annotations

import io
import json
import sys

import numpy as np
from PIL import Image

from mmeq.data.rebuild.common import Members, main
from mmeq.data.store import pack_blobs, pack_texts

PACKAGES = ("emoji-datasource-google@16.0.0", "emojibase-data@17.0.0")
QUALITY = 90


def build(google: Members, emojibase: Members) -> dict[str, np.ndarray]:
    """Join image and name of every emoji that has both and one of the nine Unicode groups.

    Skin tones and hair ("component") and regional indicators are parts, not emoji. The split group
    is subgroup + last word of the name: clock faces or man/woman variants stay together.

    Returns:
        ``images`` uint8 bytes of WebP files of 64×64 on white with ``offsets``, ``labels`` uint8
        [1906], and the packed texts ``texts``, ``ids`` (code points), ``groups``, ``classes``.
    """
    names = json.loads(emojibase("package/meta/groups.json"))
    classes = [name for name in names["groups"].values() if name != "component"]
    files = {}
    for entry in json.loads(google("package/emoji.json")):
        if entry["has_img_google"]:
            files[entry["unified"]] = entry["image"]
            files.setdefault(entry["non_qualified"], entry["image"])
    images, labels, texts, ids, groups = [], [], [], [], []
    for entry in json.loads(emojibase("package/en/data.json")):
        kind = names["groups"].get(str(entry.get("group")))
        if kind not in classes or entry["hexcode"] not in files:
            continue
        images.append(_encode(google(f"package/img/google/64/{files[entry['hexcode']]}")))
        labels.append(classes.index(kind))
        texts.append(entry["label"])
        ids.append(entry["hexcode"])
        subgroup = names["subgroups"][str(entry["subgroup"])]
        groups.append(f"{subgroup}/{entry['label'].split()[-1].lower()}")
    data, offsets = pack_blobs(images)
    return {
        "images": data,
        "offsets": offsets,
        "labels": np.array(labels, dtype=np.uint8),
        "texts": pack_texts(texts),
        "ids": pack_texts(ids),
        "groups": pack_texts(groups),
        "classes": pack_texts(classes),
    }


def _encode(png: bytes) -> bytes:
    """Put an image on white and encode it as WebP."""
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    page = Image.new("RGBA", drawn.size, (255, 255, 255, 255))
    page.alpha_composite(drawn)
    out = io.BytesIO()
    page.convert("RGB").save(out, format="WEBP", quality=QUALITY, method=6)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main("emoji", PACKAGES, build))
