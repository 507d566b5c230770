"""A process that has imported everything once and forks for each command: seconds saved, no state.

Not a test. Reads lines of JSON from its standard input and answers each with a line. A command is
``{"module" or "code", "arguments", "cwd", "environments", "stdout", "stderr", "beside"}``: there is
a child for each of the environments, a rank each, which is a process of its own: what it changes,
it changes alone. The first writes the files, the others add ``.<number>`` to their names. The
answer is ``{"status"}``, the first that is not 0, when all have ended, or for a command beside
others ``{"pid"}`` at once; ``{"poll": pid}`` asks for its status, null while it runs.
"""

import gc
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import lightning
import matplotlib
import matplotlib.pyplot
import torch

import mmeq.callbacks.record
import mmeq.config.combinations
import mmeq.data.datamodule
import mmeq.fusions.memory
import mmeq.methods.shapley
import mmeq.module
import mmeq.train  # noqa: F401 - imported to be there after the fork


def child(job: dict, rank: int) -> int:
    """Become the command."""
    os.chdir(job["cwd"])
    os.environ.update(job["environments"][rank])
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        path = Path(f"{job[name]}.{rank}" if rank else job[name])
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), number)
    sys.argv = [job["module"] or "-c", *job["arguments"]]
    sys.modules.pop(job["module"], None)
    try:
        if job["module"]:
            runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        else:
            exec(job["code"], {"__name__": "__main__"})
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Serve until the input ends."""
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    gc.collect()
    gc.freeze()  # children need not look through what is imported
    print(json.dumps({"ready": lightning.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def answer(job: dict) -> dict:
    """Do what a line asks for."""
    if "poll" in job:
        pid, status = os.waitpid(job["poll"], os.WNOHANG)
        return {"status": os.waitstatus_to_exitcode(status) if pid else None}
    pids = [start(job, rank) for rank in range(len(job["environments"]))]
    if job["beside"]:
        return {"pid": pids[0]}
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return {"status": next(filter(None, ends), 0)}


def start(job: dict, rank: int) -> int:
    """Fork a child and return its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child(job, rank)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


if __name__ == "__main__":
    main()
