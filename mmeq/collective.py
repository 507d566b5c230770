"""What all ranks of a run find together; with one rank, everything stays as it is.

Shape suffixes: B batch, M modalities, D width, N samples of the batches of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from mmeq.device import carried, on_host


def place() -> tuple[int, int]:
    """(rank of this process, number of ranks)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def add_over_ranks(tensors: list[Tensor]) -> None:
    """Sum each tensor over all ranks in place, in one collective."""
    if place()[1] == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean over ranks of a detached value, which stays as it is."""
    value, ranks = value.detach().clone(), place()[1]
    if ranks > 1:
        dist.all_reduce(value)
        value /= ranks
    return value


def share(samples: int) -> float:
    """Samples of this rank's batch over the mean of all ranks': a collective between hosts."""
    total = torch.tensor(float(samples))
    dist.all_reduce(total, group=_hosts())
    return samples / (float(total) / place()[1])


def whole_batch(
    rows: Sequence[Tensor], present_BM: Tensor | None
) -> tuple[tuple[Tensor, ...], Tensor | None, slice]:
    """The features of all ranks' batches, for what compares samples with one another.

    Gradients flow back to the rank that a row is of. The mean over ranks, which DDP makes of
    gradients, is that of the mean over ranks of what each makes of the whole. Each rank has to
    call this equally often, and to use what it gets in as many backwards.

    Args:
        rows: M tensors [B, D]; B may differ between ranks.
        present_BM: who has what, or None: all have all.

    Returns:
        M tensors [N, D], bool [N, M] or None, and which of the N rows are this rank's.
    """
    rank, ranks = place()
    if ranks == 1:
        return tuple(rows), present_BM, slice(None)
    sizes = torch.zeros(ranks, dtype=torch.int64)
    sizes[rank] = len(rows[0])
    dist.all_reduce(sizes, group=_hosts())
    each = sizes.tolist()
    own = slice(sum(each[:rank]), sum(each[: rank + 1]))
    own_MBD = torch.stack(tuple(rows)).float()
    if torch.is_grad_enabled() and not own_MBD.requires_grad:
        own_MBD.requires_grad_()  # where others have a graph, this rank takes part in its backward
    margins = (0, 0, own.start, sum(each) - own.stop)
    whole_MND: Tensor = _Added.apply(F.pad(own_MBD, margins))
    if present_BM is not None:
        whole_NM = F.pad(on_host(present_BM).int(), margins)
        dist.all_reduce(whole_NM, group=_hosts())
        present_BM = carried(whole_NM.bool(), present_BM.device)
    return tuple(whole_MND.to(rows[0].dtype)), present_BM, own


class _Added(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        """Add up."""
        value = value.clone()
        dist.all_reduce(value, group=_apart())
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ANN401
        """Add the gradients up."""
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=_apart())
        return gradient


@lru_cache(maxsize=1)
def _hosts() -> Any:  # noqa: ANN401 - a process group
    """A group of all ranks for what lies on their hosts: no device is waited for."""
    return dist.new_group(backend="gloo")


@lru_cache(maxsize=1)
def _apart() -> Any:  # noqa: ANN401 - a process group
    """A group of all ranks beside DDP's: in a backward, DDP's own turns may differ by rank."""
    return dist.new_group()
