"""A share of the fuzzer's messages; `python -m test.ros.node.fuzz` sends as many as you like."""

from collections import Counter

import pytest

from . import fuzz as fuzzer

FEW = 3000


@pytest.fixture(scope="module")
def found() -> Counter[str]:
    """What became of some messages."""
    return fuzzer.fuzz(FEW, seed=1)


def test_hostile_messages_raise_nothing_and_what_is_converted_is_sound(found: Counter[str]) -> None:
    assert found["messages"] == FEW


@pytest.mark.parametrize(
    "outcome",
    ["converted", "rejected", "without a stamp", "complete", "deadline", "tick", "late", "duplicate", "future"]
    + ["unused", "reset", "disabled"],
)
def test_the_fuzzer_reaches_every_outcome(found: Counter[str], outcome: str) -> None:
    assert found[outcome] > 0


def test_what_the_fuzzer_finds_names_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzer, "stamp_ns", lambda message: 1 // 0)
    with pytest.raises(AssertionError, match="--seed 5 --first 2: ZeroDivisionError"):
        fuzzer.fuzz(10, seed=5, first=2)
