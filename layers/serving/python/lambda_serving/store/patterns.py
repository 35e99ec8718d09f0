"""The pattern of a batch job's input files, such as `folder/**/*.jsonl` or one in s3://."""

import re
from dataclasses import dataclass

from lambda_serving.errors import InvalidArgument
from lambda_serving.store.address import Address

__all__ = ["Input", "Pattern", "no_match"]

_BUCKET = 2  # the index of the bucket among the parts of an s3:// address
_WILD = re.compile(r"[*?[]")
_WILD_PIECES = {"*": "[^/]*", "?": "[^/]"}
_EXAMPLES = "such as folder/*.jsonl or s3://BUCKET/PREFIX/*.jsonl"


@dataclass(frozen=True, slots=True)
class Input:
    """A file: its path below the pattern's folder, its bytes, and a tag that changes with it."""

    name: str
    size: int
    tag: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A folder, and a pattern for paths below it.

    `*`, `?` and `[...]` match characters within one part of a path, `**` any number of folders.
    """

    folder: str
    names: str

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """Reads a pattern; the folder ends before the first part with a wildcard.

        Raises InvalidArgument for a text that ends with a slash, or has a wildcard in the bucket.
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
        """Whether the file at an address matches; the address begins as the folder does."""
        below = address.removeprefix(self.folder.rstrip("/") + "/")
        return below != address and self.matches(below)

    def matches(self, name: str) -> bool:
        """Whether a path below the folder matches."""
        expression = "".join(map(_expression, self.names.split("/")))
        return re.fullmatch(expression, name + "/") is not None


def no_match(pattern: Pattern) -> str:
    """The message if no file matches."""
    return f"No file matches {pattern}. Correct the pattern: {_EXAMPLES}"


def _expression(part: str) -> str:
    """A regular expression for one part of a path and the slash after it."""
    if part == "**":
        return "(?:[^/]+/)*"
    pieces = re.split(r"(\*|\?|\[[^]]+\])", part)
    return "".join(_WILD_PIECES.get(piece) or _literal(piece) for piece in pieces) + "/"


def _literal(piece: str) -> str:
    is_set = piece.startswith("[") and piece.endswith("]") and len(piece) > 1
    return piece.replace("[!", "[^") if is_set else re.escape(piece)
