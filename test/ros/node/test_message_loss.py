"""Gaps in the numbers that a publisher gives its messages."""

import pytest

from smvae_ros.node.message_loss import MessageLoss


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([], 0),
        ([1, 2, 3], 0),
        ([700, 701], 0),
        ([1, 2, 5, 6, 10], 5),
        ([8, 9, 1, 2], 0),
        ([8, 9, 1, 4], 2),
        ([None, None], 0),
        ([4, None, 9], 0),
    ],
    ids=str,
)
def test_gaps_count_and_restarts_do_not(numbers: list[int | None], lost: int) -> None:
    loss = MessageLoss(lambda: 1)
    for number in numbers:
        loss.see(number)
    assert loss.lost == lost


def test_the_numbers_of_two_publishers_on_one_topic_are_no_gaps() -> None:
    loss = MessageLoss(lambda: 2)
    for number in (1000, 5, 1001, 6, 1002):
        loss.see(number)
    assert loss.lost == 0


def test_the_end_of_one_of_two_publishers_is_no_gap() -> None:
    publishers = 2
    loss = MessageLoss(lambda: publishers)
    for number in (1000, 5, 1001, 6):
        loss.see(number)
    publishers = 1
    for number in (1002, 1003, 1006):
        loss.see(number)
    assert loss.lost == 2
