"""What an order is; which ones a prediction averages over is said in `mmeq.inference`."""

from __future__ import annotations

Orders = tuple[tuple[int, ...], ...]
"""Orders of the modalities, each a permutation of 0..M-1."""
