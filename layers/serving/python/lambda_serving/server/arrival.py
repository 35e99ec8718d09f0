"""How much of a request has arrived, and for whom its connection waits.

| arrival | all answers sent         | answers due                        |
| ------- | ------------------------ | ---------------------------------- |
| NEW     | client, to begin         | does not occur                     |
| IDLE    | nobody: it is kept alive | server                             |
| HEAD    | client, to send the rest | server                             |
| BODY    | client, to send the rest | client, unless it may not send now |
| REFUSED | client, to close         | server                             |
| ENDED   | does not occur           | server                             |

Example: POST /a, then half of the head of POST /b: HEAD with one answer due. However slow /a is,
the client is not cut off. Once /a is answered, the rest of /b must arrive in time.
"""

from enum import Enum, auto

__all__ = ["OVER", "Arrival", "client_must_send"]


class Arrival(Enum):
    """How much of the newest request on a connection has arrived."""

    NEW = auto()
    """Nothing has arrived yet."""
    IDLE = auto()
    """The last request has arrived completely."""
    HEAD = auto()
    """In the request line or the headers."""
    BODY = auto()
    """After the headers."""
    REFUSED = auto()
    """The connection's last answer is written or due; what still arrives is discarded."""
    ENDED = auto()
    """The client has closed its side."""


OVER = {Arrival.REFUSED, Arrival.ENDED}


def client_must_send(arrival: Arrival, *, answers_due: bool, may_send: bool) -> bool:
    """Whether the connection waits for its client, by the table above."""
    match arrival:
        case Arrival.NEW:
            return True
        case Arrival.BODY:
            return may_send
        case Arrival.HEAD | Arrival.REFUSED:
            return not answers_due
        case Arrival.IDLE | Arrival.ENDED:
            return False
