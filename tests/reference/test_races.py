"""Stamps: group, epoch and lane in one integer, and which two of them race."""

from __future__ import annotations

import numpy as np
import pytest

from portkit.errors import HarnessError
from portkit.reference.engine import Chunk
from portkit.reference.races import Packing


@pytest.mark.parametrize("groups", [1, 3, 4, 2**31 - 1])
@pytest.mark.parametrize("lanes", [1, 3, 4, 7, 8, 1024])
def test_stamps_give_back_group_and_lane_and_never_mean_several(lanes: int, groups: int) -> None:
    packing = Packing.of(groups, lanes)
    last = Chunk(groups - 1, 1, lanes)
    for lane, stamp in enumerate(packing.stamps(last, np.array([[5]]))[0].tolist()):
        assert (packing.group(stamp), packing.lane(stamp)) == (groups - 1, lane)
        assert packing.name(stamp) == f"lane {lane} of group {groups - 1}"
        assert stamp | packing.several_lanes != stamp
        assert packing.group(packing.everyone) > groups - 1


def test_several_lanes_and_everyone_are_named() -> None:
    packing = Packing.of(4, 4)
    stamp = int(packing.stamps(Chunk(2, 1, 4), np.array([[0]]))[0, 0])
    assert packing.name(stamp | packing.several_lanes) == "several lanes of group 2"
    assert packing.name(packing.everyone) == "lanes of several work-groups"


def test_more_barriers_than_a_stamp_can_count_are_our_fault_not_the_kernel_s() -> None:
    packing = Packing.of(2**31 - 1, 2**20)
    epochs = np.array([[1 << (packing.time_bits - packing.lane_bits)]])
    with pytest.raises(HarnessError, match="barriers are not supported"):
        packing.stamps(Chunk(0, 1, 4), epochs)
    assert packing.stamps(Chunk(0, 1, 4), epochs - 1).min() > 0
