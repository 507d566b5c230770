"""The host's copy of a tensor of a device: given for as long as it is true, and no longer."""

import gc

import torch
from pretend import DEVICE, Pretended

from mmeq import device
from mmeq.device import carried, on_host, remember


def test_what_was_carried_is_read_without_waiting():
    with Pretended() as pretended, pretended.step():
        here = torch.tensor([True, False])
        there = carried(here, DEVICE)
        assert pretended.there(there)
        assert on_host(there) is here
        assert not pretended.waits
        assert not pretended.copies
        assert on_host(~there).tolist() == [False, True]  # nobody knows this one
        assert sum(pretended.waits.values()) == 1


def test_a_copy_is_not_given_once_the_tensor_was_changed():
    with Pretended() as pretended, pretended.step():
        there = carried(torch.tensor([True, False]), DEVICE)
        there[1] = True
        assert on_host(there).tolist() == [True, True]
        assert sum(pretended.waits.values()) == 1


def test_in_inference_mode_too():
    with Pretended() as pretended, pretended.step(), torch.inference_mode():
        here = torch.tensor([True, False])
        assert on_host(carried(here, DEVICE)) is here
        assert not pretended.waits


def test_what_is_on_the_host_is_its_own_copy():
    here = torch.tensor([True, False])
    remember(here, here)
    assert carried(here, here.device) is here
    assert on_host(here) is here
    assert here not in device._copies


def test_copies_go_with_their_tensors():
    gc.collect()
    before = len(device._copies)
    with Pretended():
        there = carried(torch.tensor([True]), DEVICE)
        assert len(device._copies) == before + 1
        del there
    gc.collect()
    assert len(device._copies) == before
