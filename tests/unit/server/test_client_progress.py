"""Whom a connection waits for, and when its client is too slow; by a clock of the test."""

import pytest

from lambda_serving.server.arrival import Arrival, client_must_send
from lambda_serving.server.client_progress import Progress

_PATIENCE = 10.0
_SLOWEST = 16 * 2**10


@pytest.mark.parametrize(
    ("arrival", "answers_due", "may_send", "must_send"),
    [
        (Arrival.NEW, False, True, True),
        (Arrival.IDLE, False, True, False),
        (Arrival.IDLE, True, True, False),
        (Arrival.HEAD, False, True, True),
        (Arrival.HEAD, True, True, False),
        (Arrival.BODY, False, True, True),
        (Arrival.BODY, True, True, True),
        (Arrival.BODY, True, False, False),
        (Arrival.REFUSED, False, True, True),
        (Arrival.REFUSED, True, True, False),
        (Arrival.ENDED, True, True, False),
    ],
)
def test_connection_waits_for_whom_the_table_names(
    arrival: Arrival, *, answers_due: bool, may_send: bool, must_send: bool
) -> None:
    assert client_must_send(arrival, answers_due=answers_due, may_send=may_send) is must_send


def test_client_that_sends_nothing_stalls_after_its_patience() -> None:
    progress = Progress(_PATIENCE, began=100.0)
    assert not progress.fails(110.0, 0, must_send=True)
    assert progress.fails(110.5, 0, must_send=True)


def test_client_may_rest_while_nobody_waits_for_it() -> None:
    progress = Progress(_PATIENCE, began=0.0)
    assert not progress.fails(1000.0, 0, must_send=False)
    progress.began = 1000.0
    assert not progress.fails(1009.0, 0, must_send=True)


def test_client_that_does_not_read_its_answer_stalls() -> None:
    progress = Progress(_PATIENCE, began=0.0)
    assert not progress.fails(1.0, 500, must_send=False)
    assert not progress.fails(9.0, 400, must_send=False)
    assert not progress.fails(19.0, 400, must_send=False)
    assert progress.fails(19.5, 400, must_send=False)


def test_client_that_drips_is_too_slow_and_one_at_the_slowest_rate_is_not() -> None:
    drips, slow = Progress(_PATIENCE, began=0.0), Progress(_PATIENCE, began=0.0)
    failed = []
    for second in range(1, 100):
        for client, sent in ((drips, 1), (slow, _SLOWEST)):
            client.received += sent
            client.body += sent
        failed.append(drips.fails(float(second), 0, must_send=True))
        assert not slow.fails(float(second), 0, must_send=True)
    assert failed.index(True) == _PATIENCE  # after eleven seconds
