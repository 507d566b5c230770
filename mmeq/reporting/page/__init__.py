"""One self-contained HTML page over finished runs: tables that sort, figures, tests, what lacks."""

from __future__ import annotations

from mmeq.reporting.page.page import html

__all__ = ["html"]
