"""Turns come in the order in which they are asked for, and none is lost."""

from __future__ import annotations

import threading
import time

import pytest

from hark.feedback.turns import Turns


def wait_until(turns: Turns, waiting: int) -> None:
    while turns.waiting != waiting:
        time.sleep(0.001)


def test_turns_come_in_the_order_in_which_they_are_asked_for() -> None:
    turns, came, inside = Turns(), list[int](), threading.Lock()

    def take(number: int) -> None:
        with turns.turn(60):
            assert inside.acquire(blocking=False), "two at once"
            came.append(number)
            inside.release()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(10)]
    with turns.turn(60):
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(turns, number + 1)
    for thread in threads:
        thread.join()
    assert came == list(range(10))


def test_who_waits_in_vain_leaves_the_queue() -> None:
    turns = Turns()
    with turns.turn(60):
        with pytest.raises(TimeoutError), turns.turn(0.01):
            pass
        assert turns.waiting == 0
    with turns.turn(0):
        pass


def test_a_turn_that_ends_with_an_error_is_passed_on() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="mine"), turns.turn(60):
        raise ValueError("mine")
    with turns.turn(0):
        pass
