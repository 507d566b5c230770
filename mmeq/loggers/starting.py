"""Starts a W&B run: online where there is a key and an answer, offline everywhere else."""

from __future__ import annotations

import contextlib
import netrc
import os
import secrets
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.utilities import rank_zero_only

from mmeq.files import write_text


def start(options: dict[str, Any]) -> tuple[Any, str]:
    """Return a W&B run and its mode.

    Args:
        options: of ``wandb.init``; ``dir`` is the run folder.
    """
    import wandb

    # Silent, and hands off the terminal: the console belongs to the epoch table.
    settings = {"silent": True, "console": "off", "quiet": True, **options.pop("settings", {})}
    options.pop("anonymous", None)  # Lightning still sets it; W&B warns of it
    folder = Path(options["dir"])
    folder.mkdir(parents=True, exist_ok=True)
    options["id"] = options.get("id") or run_id(folder)
    mode: Any = options.pop("mode", None) or os.environ.get("WANDB_MODE")
    if mode in (None, "dryrun", "run"):
        known = wandb.setup(settings=wandb.Settings(silent=True)).settings
        mode = "offline" if mode == "dryrun" or not has_key(known) else "online"
    if mode == "online":
        try:
            run = wandb.init(**options, mode=mode, settings=wandb.Settings(**settings))
        except Exception as error:  # no network, a refused key, a server that is down
            tell(f"W&B cannot be reached ({first_line(error)}): the run is recorded offline")
            wandb.teardown(exit_code=1)  # else its service keeps the run's id and tries on
            mode = "offline"
        else:
            tell(f"W&B: {run.url}")
            return run, mode
    return wandb.init(**options, mode=mode, settings=wandb.Settings(**settings)), mode


def run_id(folder: Path) -> str:
    """Return the W&B id that the run folder already has, or a new one kept there for a resume."""
    path = folder / "wandb" / "mmeq-run-id"
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


def has_key(settings: Any) -> bool:  # noqa: ANN401 - wandb.Settings
    """Say whether W&B would find credentials, without asking anyone and without the network."""
    if settings.api_key or settings.identity_token_file:
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    host = urlsplit(settings.base_url).hostname or ""
    for path in files:
        with contextlib.suppress(OSError, netrc.NetrcParseError):  # an unreadable file is no key
            if netrc.netrc(str(path)).authenticators(host):
                return True
    return False


def first_line(error: Exception) -> str:
    """Return what an exception says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@rank_zero_only
def tell(message: str) -> None:
    """Say something beside the run's own output."""
    print(f"mmeq: {message}", file=sys.stderr, flush=True)
