"""The numbers of a plan's packets, and sets of them."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.traffic.numbers import PacketNumbers, size_of
from tests.flow_histories import plan


def test_every_packet_has_its_own_number_and_none_is_left_out() -> None:
    numbers = PacketNumbers.of_plan(plan((0, 30, 50), (), (10, 20)))
    assert (numbers.count.tolist(), numbers.first.tolist(), numbers.total) == ([3, 0, 2], [0, 3, 3], 5)
    assert numbers.of(np.array([0, 2, 0, 2]), np.array([2, 0, 0, 1])).tolist() == [2, 3, 0, 4]


def test_a_column_of_the_plan_comes_in_the_order_of_the_numbers() -> None:
    made = plan((0, 30, 50), (10, 20))
    assert PacketNumbers.of_plan(made).in_order(made.t_ns, made).tolist() == [0, 30, 50, 10, 20]


@pytest.mark.parametrize("total", [0, 1, 63, 64, 65, 1000])
def test_sets_hold_what_was_put_in(total: int) -> None:
    numbers = PacketNumbers(np.array([total]))
    chosen = np.arange(0, total, 3)
    words = numbers.set_of(chosen)
    assert len(words) == numbers.words == max(1, -(-total // 64))
    assert np.flatnonzero(numbers.members(words)).tolist() == chosen.tolist()
    assert len(numbers.members(words)) == total
    assert size_of(words) == len(chosen)


def test_bit_k_of_word_i_is_number_64_i_plus_k() -> None:
    words = PacketNumbers(np.array([200])).set_of(np.array([0, 65, 127]))
    assert [int(word) for word in words] == [1, 1 << 1 | 1 << 63, 0, 0]
