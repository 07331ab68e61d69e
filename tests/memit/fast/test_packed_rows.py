"""How rows of the target search are packed: nothing lost, little padding."""

import random
from itertools import pairwise

import pytest

from kbsync.memit.fast import packed_rows as target_rows
from kbsync.memit.fast.packed_rows import pack_lengths


def work(lengths: list[int], packs: list[list[int]], cost: int) -> int:
    """Padded tokens and the packs' cost."""
    return sum(len(pack) * max(lengths[row] for row in pack) + cost for pack in packs)


@pytest.mark.parametrize("cost", [0, 5, 40, 10_000])
def test_each_row_is_in_one_pack(cost: int) -> None:
    draw = random.Random(3)
    for _ in range(20):
        lengths = [draw.randint(1, 9) for _ in range(draw.randint(1, 40))]
        packs = pack_lengths(lengths, cost)
        assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
        assert all(pack == sorted(pack) for pack in packs)
        for lower, higher in pairwise(packs):
            assert max(lengths[row] for row in lower) < min(lengths[row] for row in higher)


def test_no_other_packs_of_neighbouring_lengths_are_less_work() -> None:
    draw = random.Random(4)
    for _ in range(20):
        lengths = [draw.randint(1, 5) for _ in range(12)]
        sizes = sorted(set(lengths))
        ways = []
        for chosen in range(2 ** (len(sizes) - 1)):
            groups = [[sizes[0]]]
            for number, size in enumerate(sizes[1:]):
                if chosen >> number & 1:
                    groups.append([size])
                else:
                    groups[-1].append(size)
            ways.append([[row for row, length in enumerate(lengths) if length in group] for group in groups])
        assert work(lengths, pack_lengths(lengths, 4), 4) == min(work(lengths, way, 4) for way in ways)


def test_a_pass_that_costs_nothing_leaves_no_padding() -> None:
    assert pack_lengths([3, 1, 3, 2], 0) == [[1], [3], [0, 2]]
    assert pack_lengths([3, 1, 3, 2], 1000) == [[0, 1, 2, 3]]


def test_the_default_parts_many_short_rows_from_many_long_ones() -> None:
    few, many = [1] * 3 + [4] * 3, [1] * 100 + [4] * 100
    assert len(pack_lengths(few)) == 1
    assert len(pack_lengths(many)) == 2
    assert target_rows.PASS_COST == 64
