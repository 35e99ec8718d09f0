"""Where files lie: on this machine or in an S3 bucket. Only this module tells them apart."""

import re
from typing import NamedTuple, Self

from lambda_serving.errors import InvalidArgument, Unimplemented

__all__ = ["Address"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


class Address(NamedTuple):
    """`s3://bucket/path` without a slash at the end, or a local path, with an empty bucket."""

    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str, what: str = "The base path") -> Self:
        """The address that a user gave; errors call it `what`.

        Raises InvalidArgument for s3:// without a bucket, and Unimplemented for another scheme.
        """
        scheme = _SCHEME.match(text)
        if not scheme:
            return cls("", text)
        if not text.startswith("s3://"):
            raise Unimplemented(
                f"{what} {text} has the scheme {scheme[1]}:. Supported are folders and"
                " s3://BUCKET/PREFIX"
            )
        bucket, _, path = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise InvalidArgument(f"{what} {text} names no bucket: s3://BUCKET/PREFIX")
        return cls(bucket, path.rstrip("/"))

    @classmethod
    def in_bucket(cls, text: str, what: str = "The base path") -> Self:
        """As `parse`; also raises InvalidArgument for a local path."""
        address = cls.parse(text, what)
        if not address.is_bucket:
            raise InvalidArgument(f"{what} must be in a bucket, s3://BUCKET/PREFIX; got {text}")
        return address

    @property
    def is_bucket(self) -> bool:
        return bool(self.bucket)

    @property
    def prefix(self) -> str:
        """The beginning of keys below it: empty, or with a slash at the end."""
        return f"{self.path}/" if self.path else ""

    def __truediv__(self, name: str) -> Self:
        return self._replace(path=self.prefix + name)

    def parent_and_name(self) -> tuple[Self, str]:
        """The folder that a base path is in, and the model's name.

        Raises InvalidArgument for a base path without a name.
        """
        parent, _, name = self.path.rpartition("/")
        if not name:
            raise InvalidArgument(f"{self} names no model: s3://BUCKET/PREFIX/NAME")
        return self._replace(path=parent), name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}".rstrip("/") if self.bucket else self.path
