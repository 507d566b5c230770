"""What every main shares: Hydra's own errors in plain words, and a clean exit."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from mmeq.config.hold import child_rank
from mmeq.config.output import outlive_readers
from mmeq.config.paths import conf_dir, groups, options_of
from mmeq.errors import MmeqError, did_you_mean

MISTAKE = 2
"""Exit status for what the user can put right."""

EXTRAS = {
    "hydra/launcher=joblib": "sweep",
    "hydra/launcher=submitit_local": "sweep",
    "hydra/launcher=submitit_slurm": "sweep",
    "hydra/launcher=ray": "ray",
}
"""Launchers of Hydra that packages bring, and the extra of mmeq that has them."""

FULL = "HYDRA_FULL_ERROR"
PACKAGE = Path(__file__).parents[1]
PLUGINS = str(PACKAGE / "plugins")
FORMAT = warnings.formatwarning
Result = TypeVar("Result")


def run_dir_of(resume: str | None, fresh: str) -> str:
    """Resolve ``hydra.run.dir``: the folder to resume, or a fresh one."""
    return fresh if resume is None else str(resume)


def prepare() -> None:
    """Register what the YAML files of ``conf/hydra`` refer to; print mmeq's warnings as a line.

    Hydra looks for plugins in the namespace ``hydra_plugins`` only; that of mmeq lies in
    ``mmeq/plugins``.
    """
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    warnings.formatwarning = plain_warning
    OmegaConf.register_new_resolver("mmeq.run_dir", run_dir_of, replace=True)


def plain_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format a warning of mmeq as one line for its user, others as Python does."""
    if Path(filename).is_relative_to(PACKAGE):
        return f"mmeq: warning: {message}\n"
    return FORMAT(message, category, filename, lineno, line)


def call(main: Callable[[], Any], config_name: str) -> None:
    """Call a Hydra main; a command line that Hydra refuses becomes one message and status 2.

    Set ``HYDRA_FULL_ERROR=1`` for the traceback.
    """
    outlive_readers()
    full = os.environ.get(FULL) == "1"
    os.environ[FULL] = "1"  # Hydra then raises, where it would print a traceback and leave
    try:
        main()
    except CompactHydraException as error:
        if full:
            raise
        leave(explain(error, config_name, sys.argv[1:]))
    except MmeqError as error:  # of a sweep's job
        if full:
            raise
        leave(str(error))
    except ValueError as error:
        if full or "Config group override" not in str(error):
            raise
        wrong = [a for a in sys.argv[1:] if a.partition("=")[0] in groups()]
        leave(f"{' '.join(wrong)}: a group takes the name of one of its choices; see --help")
    except OSError as error:  # Hydra makes the folder before anything else
        if full or not _of_output(error):
            raise
        leave(f"the folder {error.filename} cannot be made ({error.strerror})")
    finally:
        if not full:
            os.environ.pop(FULL, None)


def _of_output(error: OSError) -> bool:
    """Say whether Hydra could not make the output folder."""
    last = error.__traceback__
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(last)]
    return error.filename is not None and "mkdir" in frames and "wrapped" not in frames


def task(function: Callable[[DictConfig], Result]) -> Callable[[DictConfig], Result]:
    """Decorate what Hydra calls: a mistake of the user becomes one message and status 2.

    In a sweep it goes up to Hydra, which notes it, does the other jobs and raises it at the end.
    """
    full = os.environ.get(FULL) == "1"

    @functools.wraps(function)
    def wrapped(cfg: DictConfig) -> Result:
        held = None if full else os.environ.pop(FULL, None)  # not for ranks that this one starts
        try:
            return function(cfg) if full or sweeping() else reported(function)(cfg)
        finally:
            if held is not None:
                os.environ[FULL] = held

    return wrapped


def reported(function: Callable[[DictConfig], Result]) -> Callable[[DictConfig], Result]:
    """Return the function with a mistake of the user as one message and status 2."""

    @functools.wraps(function)
    def wrapped(cfg: DictConfig) -> Result:
        try:
            return function(cfg)
        except MmeqError as error:
            leave(str(error))
        except OSError as error:
            from mmeq.files import NotWritten

            if not isinstance(error, NotWritten):
                raise
            leave(str(error))

    return wrapped


def sweeping() -> bool:
    """Say whether Hydra runs this as one job of several."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def leave(message: str) -> NoReturn:
    """Print the message, with the rank where there are several, and exit."""
    rank = f" (rank {os.environ.get('LOCAL_RANK')})" if child_rank() else ""
    print(f"mmeq{rank}: {message}", file=sys.stderr)
    sys.exit(MISTAKE)


def explain(error: CompactHydraException, config_name: str, arguments: list[str]) -> str:
    """Say what Hydra means, with the nearest valid name.

    Args:
        error: what it raised.
        config_name: of the main.
        arguments: of the command line.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if extra := EXTRAS.get(f"{group}={choice}"):
            return f"{group}={choice} needs a package: pip install 'mmeq[{extra}]'"
        return f"there is no {group}={choice}" + did_you_mean(choice, error.options)
    if unknown := re.search(r"Could not load '(\w+)/(\w+)'", str(error)):  # one of a list
        group, choice = unknown[1], unknown[2]
        return f"there is no {group}={choice}" + did_you_mean(choice, groups().get(group, ()))
    if isinstance(error, OverrideParseException):
        if literal := quoted(str(error.override)):
            return f"{error.override} cannot be read; a text as this one needs quotes: {literal}"
        first = str(error).splitlines()[0]
        return f"{error.override} cannot be read: {first}; an override is written option=value"
    from mmeq.config.schema import ELSEWHERE

    found = re.match(r"Could not override '([^']+)'", str(error))
    if found is None:
        cause = error.__cause__
        said = [str(error).strip(), *(str(cause).splitlines()[:1] if cause else [])]
        ambiguous = re.search(r"Ambiguous value for argument '(.*)'\n", said[0])
        if ambiguous and (literal := quoted(ambiguous[1])):
            said[0] = said[0].replace(r"key=\'value1,value2\'", literal)
        return "\n".join(said)
    key = found[1]
    known = neighbours(key, config_name, arguments)
    first = key.partition(".")[0]
    if not options_of(config_name)[0] and first in set().union(*options_of("train")):
        return f"there is no option {key} here: the configuration comes from the run folder"
    if key in ELSEWHERE:
        return f"{key} is not an option here: {ELSEWHERE[key]}"
    last = key.rpartition(".")[2]
    group, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    if not known and name in groups().get(group, ()):
        return f"there is no option {key}: give {group}={name}, or [{name},…] for several"
    return f"there is no option {key}" + did_you_mean(last, known)


def quoted(override: str) -> str | None:
    """Return the override as a shell and Hydra's grammar take it, its value a text.

    None where that is no way to write it: no option, quotes already, or a list that breaks off.

    Examples:
        >>> print(quoted("data_root=/data/größe=1"), quoted("data_root=it's"), quoted("sizes=[1,"))
        data_root="'/data/größe=1'" 'data_root="it'"'"'s"' None
    """
    key, is_one, value = override.partition("=")
    if not is_one or not value or value[0] in "[{(\"'":
        return None
    special = bool(set(value) & set("`$\\!"))  # a shell heeds them between double quotes
    mark = '"' if "'" in value or (special and '"' not in value) else "'"
    inner = re.sub(r"(\\+)$", r"\1\1", value).replace(mark, f"\\{mark}")
    literal = f"{key}={mark}{inner}{mark}"
    try:
        [parsed] = OverridesParser.create().parse_overrides([literal])
    except OverrideParseException:
        return None
    if parsed.value() != value:
        return None
    return shlex.quote(literal) if special or '"' in literal else f'{key}="{mark}{inner}{mark}"'


def neighbours(key: str, config_name: str, arguments: list[str]) -> list[str]:
    """Return the names that could stand at the place of a key that does not exist."""
    own = options_of(config_name)[0]
    chosen = [a for a in arguments if a.lstrip("+~").partition("=")[0] in own]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            node: Any = compose(config_name, overrides=chosen)
    except CompactHydraException:
        return list(own)
    names = list(own)
    for part in key.split(".")[:-1]:
        if not isinstance(node, DictConfig) or part not in node:
            return []
        node, names = node._get_node(part), []
    return sorted({*(map(str, node) if isinstance(node, DictConfig) else ()), *names})


def output_dir() -> Path:
    """Return the folder of the run that Hydra has begun."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def given_overrides() -> list[str]:
    """Return the overrides of the command line, Hydra's own left out."""
    from hydra.core.hydra_config import HydraConfig

    raw: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(raw)


def refuse_impossible_launch(trainer: dict[str, Any]) -> None:
    """Refuse launches on a device that is not here, or with ranks in different folders.

    Raises:
        MmeqError: for an accelerator that this machine lacks, and for an external launcher without
            a folder given by name.
    """
    import torch
    from hydra.core.hydra_config import HydraConfig

    from mmeq.config.build import processes

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not there.get(trainer["accelerator"], True):
        raise MmeqError(
            f"trainer.accelerator={trainer['accelerator']}: PyTorch finds no such device; give "
            "cpu, or auto for the best that there is"
        )
    hydra = HydraConfig.get()
    external = os.environ.get("TORCHELASTIC_RUN_ID") or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    named = any(o.startswith("hydra.run.dir=") for o in hydra.overrides.hydra)
    resume = any(o.startswith("resume=") for o in hydra.overrides.task)
    if external and processes(trainer) > 1 and not (named or resume):
        raise MmeqError(
            "hydra.run.dir is not given, and a launcher started every rank by itself: each would "
            "make a folder of its own; give hydra.run.dir=runs/<name>"
        )
