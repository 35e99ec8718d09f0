"""Repositories, references to images, blobs and manifests."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Self
from urllib.parse import urlsplit

from lambda_serving.errors import InvalidArgument

__all__ = ["LOOPBACK", "MEDIA_TYPES", "Blob", "Document", "Reference", "Repository"]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Media types of manifests: OCI's and Docker's of an image, then of a list of images.
MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

_DIGEST = "sha256:[0-9a-f]{64}"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9.-]+|\[::1\])(?::[0-9]+)?)"
    rf"/(?P<name>{_PART}(?:/{_PART})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})|@(?P<digest>{_DIGEST}))"
)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the registry at `host`, which may end with a port."""

    host: str
    name: str

    @property
    def url(self) -> str:
        """The start of the repository's URLs; plain http only for this machine."""
        scheme = "http" if urlsplit(f"//{self.host}").hostname in LOOPBACK else "https"
        return f"{scheme}://{self.host}/v2/{self.name}"

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image by its `tag` or by the digest of its manifest; one of the two is empty."""

    repository: Repository
    tag: str
    digest: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Reads HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST.

        There is no default host, so the first part must look like a host, by Docker's rule.
        Raises InvalidArgument.
        """
        match = _REFERENCE.fullmatch(text)
        if not match or not ({".", ":"} & set(match["host"]) or match["host"] == "localhost"):
            raise InvalidArgument(
                f"{text} does not name an image: HOST/REPOSITORY:TAG or"
                " HOST/REPOSITORY@sha256:DIGEST, the repository in lower case"
            )
        repository = Repository(match["host"], match["name"])
        return cls(repository, match["tag"] or "", match["digest"] or "")

    def __str__(self) -> str:
        return f"{self.repository}{f'@{self.digest}' if self.digest else f':{self.tag}'}"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that a registry stores under their digest, `sha256:...`."""

    digest: str
    size: int

    @classmethod
    def holding(cls, content: bytes) -> Self:
        return cls(f"sha256:{sha256(content).hexdigest()}", len(content))

    @classmethod
    def of(cls, descriptor: object) -> Self:
        """Reads a content descriptor (OCI image spec). Raises InvalidArgument."""
        match descriptor:
            case {"digest": str(digest), "size": int(size)} if re.fullmatch(_DIGEST, digest):
                return cls(digest, size)
        raise InvalidArgument(
            f"{descriptor} does not describe a blob with its size and sha256 digest"
        )

    def descriptor(self, media_type: str) -> dict[str, str | int]:
        """A content descriptor that `of` reads."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest, byte for byte."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return Blob.holding(self.content).digest
