"""Tables over many runs, from folders or kept lines alone: what was read, compared and written.

Neither torch nor lightning nor hydra is imported, so that a report over a thousand folders takes
seconds.
"""

from __future__ import annotations

from mmeq.reporting.folders import Found, read_folders
from mmeq.reporting.grouping import compare
from mmeq.reporting.kept import keep, kept_runs
from mmeq.reporting.latex import latex
from mmeq.reporting.markdown import markdown
from mmeq.reporting.page import html
from mmeq.reporting.runs import Run
from mmeq.reporting.sheets import report_csv, runs_csv
from mmeq.reporting.tables import Row, Table

__all__ = [
    "Found",
    "Row",
    "Run",
    "Table",
    "compare",
    "html",
    "keep",
    "kept_runs",
    "latex",
    "markdown",
    "read_folders",
    "report_csv",
    "runs_csv",
]
