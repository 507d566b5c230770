"""A device that is none: CPU tensors that count as being elsewhere, and who waits for them.

`Pretended` follows every tensor that a GPU would hold: what is moved to `DEVICE`, made there, or
computed from such. Reading one on the host (``item``, ``tolist``, ``if``, a boolean mask, …) is
what makes a program wait for a GPU; inside `Pretended.step` it is written down with its place.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar
from unittest import mock

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("cpu", 0)
"""Unlike ``torch.device("cpu")``, which is the host."""
HERE = Path(__file__).parent.parent
OURS = tuple(f"{HERE / part}{os.sep}" for part in ("mmeq", "tests"))
WAITS = {
    *("_local_scalar_dense", "equal", "allclose", "nonzero", "masked_select", "bincount", "histc"),
    *("unique_dim", "_unique", "_unique2", "unique_consecutive", "unique_dim_consecutive"),
    *(
        "_histogramdd_bin_edges",
        "_linalg_check_errors",
        "repeat_interleave.Tensor",
        "masked_fill.Tensor",
    ),
    *("masked_fill_.Tensor", "index_fill.int_Tensor", "index_fill_.int_Tensor"),
}
"""Operations, or overloads of them, whose kernels on a GPU give something to the host."""
READS = {"tolist", "numpy", "__array__", "__dlpack__", "data_ptr"}
"""Methods that read memory without any operation."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
MASKS = (torch.bool, torch.uint8)


def strategy() -> SingleDeviceStrategy:
    """Lightning's own for one GPU, of the pretended kind."""
    return SingleDeviceStrategy(DEVICE)


class Pretended(TorchFunctionMode):
    """A context in which `DEVICE` is a device of its own.

    Attributes:
        waits: in `step`: what read the device's memory, as ``operation at file:line``, how often.
        copies: in `step`: copies from host to device that wait for what the device has to do
            (not ``non_blocking``), likewise.
        mixed: in `step`: operations on tensors of both sides, which a GPU refuses, likewise.
    """

    _there: ClassVar[dict[int, StorageWeakRef]] = {}  # of all: plans outlive a context

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.copies, self.mixed = Counter(), Counter(), Counter()
        self._operations = _Operations(self)
        self._patches = ExitStack()
        self._stepping = self.silent = False
        self.within = False  # a function of torch, which was given a tensor of the device

    def __enter__(self) -> Pretended:
        grouped = partial(self._grouped, clip_grad._group_tensors_by_device_and_dtype)
        for patch in (
            mock.patch.object(torch, "Generator", _Generator),
            mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", grouped),
            self._operations,
        ):
            self._patches.enter_context(patch)
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self._patches.close()

    def _grouped(self, group, lists, *options):
        """Tensors by their device, of whose two only torch's own part does not know."""
        assert all(map(self.there, lists[0]))
        return {(DEVICE, kind): found for (_, kind), found in group(lists, *options).items()}

    @contextmanager
    def step(self):
        """Write down who waits."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False

    @contextmanager
    def _silently(self):
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def there(self, tensor: object) -> bool:
        """Whether the device holds a tensor."""
        return isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata in self._there

    def put(self, *tensors: object) -> None:
        """Say that the device holds these."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and not self.there(tensor):
                # a weak reference keeps the address from being given to another storage
                reference = StorageWeakRef(tensor.untyped_storage())
                self._there[tensor.untyped_storage()._cdata] = reference

    def note(self, kind: Counter, what: str) -> None:
        """Write down, with the innermost line of ours."""
        if not self._stepping:
            return
        frame = sys._getframe(1)
        while not frame.f_code.co_filename.startswith(OURS) or frame.f_code.co_filename == __file__:
            frame = frame.f_back
        place = Path(frame.f_code.co_filename).relative_to(HERE)
        kind[f"{what} at {place}:{frame.f_lineno}"] += 1

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if name == "__get__" and getattr(func, "__self__", None) is Tensor.device:
            return DEVICE if self.there(first) else func(first)
        if name in READS and self.there(first):
            self.note(self.waits, name)
            with self._silently():
                return func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cpu, Tensor.type_as):
            return self._moved(func, *args, **kwargs)
        if kwargs.get("device") is not None and torch.device(kwargs["device"]) == DEVICE:
            if name in ("tensor", "as_tensor", "asarray", "new_tensor"):
                with self._silently():
                    made = func(*args, **kwargs).clone()
                if not self.there(args[0] if name != "new_tensor" else args[1]):
                    self.note(self.copies, resolve_name(func) or name)
                self.put(made)
                return made
        elif name == "new_tensor" and self.there(first):
            self.note(self.copies, name)
            made = func(*args, **kwargs)
            self.put(made)
            return made
        if name == "one_hot" and _argument(args, kwargs, 1, "num_classes", -1) >= 0:
            with self._silently():  # only the CPU's looks whether the classes fit
                return func(*args, **kwargs)
        before, self.within = self.within, self.within or any(map(self.there, args))
        try:
            return func(*args, **kwargs)
        finally:
            self.within = before

    def _moved(self, func, tensor: Tensor, *args, **kwargs) -> Tensor:
        """``to``, ``cpu`` and ``type_as``, of which the CPU's do nothing."""
        here = self.there(tensor)
        target = DEVICE if here else torch.device("cpu")
        given = [*args, *kwargs.values()]
        if func is Tensor.cpu:
            target = torch.device("cpu")
        for value in given:
            if isinstance(value, Tensor):
                target = DEVICE if self.there(value) else torch.device("cpu")
            elif isinstance(value, str | torch.device):
                target = torch.device(value)
        with self._silently():
            result = func(tensor, *args, **kwargs)
            if (target == DEVICE) == here:
                return result
            result = result.clone() if result is tensor else result
        if here:
            self.note(self.waits, f"{func.__name__} of the device's")
            return self.taken(result)
        if not kwargs.get("non_blocking"):
            self.note(self.copies, f"{func.__name__} of {tuple(tensor.shape)}")
        self.put(result)
        return result

    def taken(self, tensor: Tensor) -> Tensor:
        """The same, on the host."""
        self._there.pop(tensor.untyped_storage()._cdata, None)
        return tensor


class _Generator(torch.Generator):
    """Knows on which side it draws."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.where = torch.device(device)

    @property
    def device(self) -> torch.device:
        """The pretended one."""
        return self.where


class _Operations(TorchDispatchMode):
    """Sees every operation, those of backwards and of compiled parts of torch too."""

    def __init__(self, pretended: Pretended) -> None:
        super().__init__()
        self.pretended = pretended

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        pretended, name = self.pretended, func.__name__.split(".")[0]
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if pretended.there(tensor)]
        if there and not pretended.silent:
            self._look(func, name, args, tensors, there)
        result = func(*args, **kwargs)
        made = kwargs.get("device")  # torch itself makes tensors beside those that it has
        beside = pretended.within or torch._C._current_graph_task_id() != -1
        if there or made == DEVICE or (made and beside):
            pretended.put(*tree_leaves(result))
        return result

    def _look(self, func, name: str, args, tensors: list[Tensor], there: list[Tensor]) -> None:
        pretended, overload = self.pretended, f"{name}.{func._overloadname}"
        if name in WAITS or (overload in WAITS and pretended.there(args[-1])):
            pretended.note(pretended.waits, name)
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            filled = name != "index" and args[2].numel() == 1 and not pretended.there(args[2])
            if any(i.dtype in MASKS and pretended.there(i) for i in indices) and not filled:
                pretended.note(pretended.waits, f"{name} by a mask")
            elif pretended.there(args[0]) and not all(map(pretended.there, indices)):
                pretended.note(pretended.copies, f"{name} by what is on the host")
            tensors = [args[0]]
        away = [tensor for tensor in tensors if not pretended.there(tensor)]
        if name == "copy_" and away:
            to_host = away[0] is args[0]
            kind = pretended.waits if to_host else pretended.copies
            pretended.note(kind, f"{name} {'to' if to_host else 'from'} the host")
        elif any(tensor.dim() for tensor in away):  # single numbers are taken as they are
            pretended.note(pretended.mixed, name)


def _argument(args, kwargs, place: int, name: str, default):
    return kwargs.get(name, args[place] if len(args) > place else default)
