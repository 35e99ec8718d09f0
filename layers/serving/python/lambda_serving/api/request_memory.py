"""Memory that requests take together: each takes its bytes from one room, and gives them back."""

from collections.abc import Callable
from threading import Lock
from typing import Self

from lambda_serving.errors import Cancelled, ServingError

__all__ = ["Held", "Room"]


class Room:
    """The bytes that requests may hold together at any time; `refusal` is raised for more.

    Safe to use from several threads.
    """

    def __init__(self, limit: int, refusal: Callable[[int], ServingError]) -> None:
        self._limit = limit
        self._refusal = refusal
        self._held = 0
        self._lock = Lock()

    def take(self, size: int, own: int = 0) -> None:
        """Raises the refusal if `size` bytes do not fit beside those of others.

        A request that holds `own` bytes already may have more if nobody else holds any.
        """
        with self._lock:
            if self._held + size > self._limit and self._held > own:
                raise self._refusal(self._limit)
            self._held += size

    def give_back(self, size: int) -> None:
        with self._lock:
            self._held -= size


class Held:
    """What one request holds of a room, given back at the end of the block.

    A thread may still be reading the request then, if its client left or its time ran out.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = 0
        self._is_over = False
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_over = True
            self._room.give_back(self._size)

    def add(self, size: int) -> None:
        """Holds `size` bytes more; raises the room's refusal, and Cancelled after the block."""
        with self._lock:
            if self._is_over:
                raise Cancelled("The request was answered before it had been read.")
            if size:
                self._room.take(size, self._size)
                self._size += size
