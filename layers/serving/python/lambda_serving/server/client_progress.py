"""Tells whether a client stalls, or sends too slowly."""

from dataclasses import dataclass

__all__ = ["Progress"]

_SLOWEST = 16 * 2**10  # bytes a second


@dataclass(slots=True)
class Progress:
    """How far a client has come; times are of one clock, in seconds."""

    patience: float
    began: float
    """When the current request began to arrive."""
    body: int = 0
    """Bytes of its body so far."""
    received: int = 0
    """Bytes of the connection so far."""
    _seen: tuple[int, int] = (0, 0)
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._since = self.began

    def fails(self, now: float, unread: int, *, must_send: bool) -> bool:
        """Whether the client is too slow; to be called a few times per `patience`.

        It stalls if for `patience` seconds it reads none of the `unread` bytes of answers, or sends
        nothing although it `must_send`. It is too slow if a request arrives below `_SLOWEST`, after
        the first `patience` seconds.
        """
        seen = (self.received, unread)
        if seen != self._seen or not (unread or must_send):
            self._seen, self._since = seen, now
        allowed = self.patience + self.body / _SLOWEST
        return now - self._since > self.patience or (must_send and now - self.began > allowed)
