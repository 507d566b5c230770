"""One local HTML page over run folders, finished or under way: figures, tables, links."""

from __future__ import annotations

from mmeq.reporting.dashboard.page import page
from mmeq.reporting.dashboard.record import Record, read_records

__all__ = ["Record", "page", "read_records"]
