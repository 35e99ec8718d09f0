import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.model_server_config import of_message, to_message
from lambda_serving.config.servable_version_policy import All, Latest, Specific
from lambda_serving.server.workers.frames import Frame, Kind, joined, split
from lambda_serving.server.workers.supervisor import pause_after, shared_out
from lambda_serving.server.workers.worker_process import WorkerProcess, WorkerState

_FRAMES = [Frame(Kind.CALL, 2**32 - 1, "größe", b"\0" * 70_000), Frame(Kind.READY)]


def test_frames_are_read_as_they_were_written() -> None:
    written = b"".join(map(bytes, _FRAMES))
    file = io.BytesIO(written)
    assert [Frame.read_from(file) for _ in range(3)] == [*_FRAMES, None]
    assert asyncio.run(_read(written)) == [*_FRAMES, None]


async def _read(written: bytes) -> list[Frame | None]:
    reader = asyncio.StreamReader()
    reader.feed_data(written)
    reader.feed_eof()
    return [await Frame.read(reader) for _ in range(3)]


def test_frame_that_is_cut_short_is_the_end() -> None:
    assert asyncio.run(_read(bytes(_FRAMES[0])[:-1])) == [None] * 3


@pytest.mark.parametrize("payloads", [[], [b""], [b"a", b"", b"bc" * 1000]])
def test_joined_payloads_are_split_again(payloads: list[bytes]) -> None:
    assert split(joined(payloads)) == payloads


def test_pauses_grow_and_are_bounded() -> None:
    assert [pause_after(failures) for failures in range(5)] == [0, 1, 2, 4, 8]
    assert pause_after(2000) == pause_after(6) == 30


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(0, 64))
def test_each_socket_is_accepted_from_by_one_ready_worker_its_own_if_that_is_ready(
    ready: set[int], others: int
) -> None:
    count = max(ready) + 1 + others
    shares = shared_out(sorted(ready), count)
    assert sorted(shares) == sorted(ready)
    assert all(number in sockets for number, sockets in shares.items())
    assert sorted(socket for sockets in shares.values() for socket in sockets) == [*range(count)]


def test_sockets_without_a_worker_are_spread() -> None:
    assert shared_out([0, 3], 4) == {0: {0, 2}, 3: {1, 3}}
    assert shared_out([1], 3) == {1: {0, 1, 2}}


def test_models_go_to_other_workers_as_they_are() -> None:
    models = [
        ModelConfig("a", "/a", All()),
        ModelConfig("b", "s3://b/b", Latest(2), {"stable": 1}),
        ModelConfig("c", "/c", Specific(frozenset({1, 3}))),
    ]
    assert of_message(to_message(models), "x") == models


def _serving(told: list[Kind]) -> WorkerProcess:
    worker = WorkerProcess(0, [], -1, lambda _, frame: told.append(frame.kind))
    worker.receive(Frame(Kind.SERVING))
    return worker


def test_worker_that_misses_ten_beats_is_given_up() -> None:
    worker = _serving([])
    assert [worker.beat() for _ in range(10)] == [True] * 10
    worker.receive(Frame(Kind.PONG))
    assert [worker.beat() for _ in range(11)] == [True] * 10 + [False]
    assert worker.state is WorkerState.CLOSING
    assert worker.beat()  # once is enough


def test_worker_whose_event_loop_stands_still_for_a_minute_is_given_up() -> None:
    worker, lived = _serving([]), []
    for behind in (*range(60), 0, *range(61)):
        lived.append(worker.beat())
        worker.receive(Frame(Kind.PONG, behind))
    assert all(lived)
    assert not worker.beat()


@pytest.mark.parametrize("state", [WorkerState.LOADING, WorkerState.CLOSING, WorkerState.ENDED])
def test_worker_for_which_no_client_waits_is_not_asked(state: WorkerState) -> None:
    worker = _serving([])
    worker.state = state
    assert [worker.beat() for _ in range(100)] == [True] * 100


def test_parent_is_told_when_models_come_or_go_and_not_with_each_beat() -> None:
    told: list[Kind] = []
    worker = _serving(told)
    lacking, complete = Frame(Kind.PONG, payload=b"\0"), Frame(Kind.PONG)
    found = []
    for frame in (complete, lacking, lacking, complete, complete):
        worker.receive(frame)
        found.append((worker.lacks_models, told.count(Kind.PONG)))
    assert found == [(False, 0), (True, 1), (True, 1), (False, 2), (False, 2)]
