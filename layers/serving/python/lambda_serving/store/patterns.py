"""Which files a batch job reads: `folder/**/*.jsonl`, on this machine or in a bucket."""

import re
from dataclasses import dataclass

from lambda_serving.errors import InvalidArgument
from lambda_serving.store.address import Address

__all__ = ["Input", "Pattern", "no_match"]

_BUCKET = 2  # which part of an address in s3:// it is
_WILD = re.compile(r"[*?[]")
_WILD_PIECES = {"*": "[^/]*", "?": "[^/]"}
_EXAMPLES = "such as folder/*.jsonl or s3://BUCKET/PREFIX/*.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """A file: its name below the folder of the pattern, bytes, and what differs if it changes."""

    name: str
    size: int
    tag: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A folder, and which names below it are meant.

    `*`, `?` and `[...]` are for characters of one part of a name, `**` is for any folders.
    """

    folder: str
    names: str

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """The folder goes up to the first part that is not to be taken literally.

        Raises InvalidArgument for a text that ends in a slash.
        """
        parts = text.split("/")
        wild = (number for number, part in enumerate(parts) if _WILD.search(part))
        first = next(wild, len(parts) - 1)
        if not parts[-1]:
            raise InvalidArgument(f"The pattern {text} names no files: {_EXAMPLES}")
        if first <= _BUCKET and Address.parse(text).is_bucket:
            raise InvalidArgument(f"The pattern {text} names no bucket, or no files: {_EXAMPLES}")
        folder = "/".join(parts[:first]) or ("/" if first else ".")
        return cls(folder, "/".join(parts[first:]))

    def __str__(self) -> str:
        return f"{self.folder}/{self.names}"

    def includes(self, address: str) -> bool:
        """Whether the file of an address, made as that of the folder, is meant."""
        below = address.removeprefix(self.folder.rstrip("/") + "/")
        return below != address and self.matches(below)

    def matches(self, name: str) -> bool:
        """Whether a name below the folder is meant."""
        return (
            re.fullmatch("".join(map(_expression, self.names.split("/"))), name + "/") is not None
        )


def no_match(pattern: Pattern) -> str:
    return f"No file matches {pattern}. Correct the pattern: {_EXAMPLES}"


def _expression(part: str) -> str:
    """A regular expression for one part of a name with the slash behind it."""
    if part == "**":
        return "(?:[^/]+/)*"
    pieces = re.split(r"(\*|\?|\[[^]]+\])", part)
    return "".join(_WILD_PIECES.get(piece) or _literal(piece) for piece in pieces) + "/"


def _literal(piece: str) -> str:
    is_set = piece.startswith("[") and piece.endswith("]") and len(piece) > 1
    return piece.replace("[!", "[^") if is_set else re.escape(piece)
