"""Loggers beside the run folder's own record, and what every one of them is given."""

from __future__ import annotations

from mmeq.loggers.giving import (
    finish_loggers,
    log_config,
    log_figures,
    log_results,
    result_tables,
)
from mmeq.loggers.local import csv_logger, tensorboard_logger
from mmeq.loggers.wandb import wandb_logger

__all__ = [
    "csv_logger",
    "finish_loggers",
    "log_config",
    "log_figures",
    "log_results",
    "result_tables",
    "tensorboard_logger",
    "wandb_logger",
]
