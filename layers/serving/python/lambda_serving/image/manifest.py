"""Parses manifests and configurations of images, and extends them by a layer; without I/O.

An image keeps its format: OCI (image spec 1.1) or Docker (image manifest version 2, schema 2).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lambda_serving.errors import InvalidArgument
from lambda_serving.image.layer import Layer
from lambda_serving.image.reference import MEDIA_TYPES, Blob, Document, Reference

__all__ = ["Image", "Manifest"]

_OCI, _DOCKER, *_LISTS = MEDIA_TYPES
_LAYERS = {
    _OCI: "application/vnd.oci.image.layer.v1.tar+gzip",
    _DOCKER: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_CONFIGS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
_MAX_LAYERS = 127  # Docker's and so Lambda's


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an image for one architecture."""

    media_type: str
    document: Mapping[str, Any]
    config: Blob
    layers: tuple[Blob, ...]

    @classmethod
    def of(cls, reference: Reference, found: Document) -> Self:
        """Raises InvalidArgument for a list of images and for what is not an image."""
        document = _parse(found.content, f"The manifest of {reference}")
        media_type = str(document.get("mediaType", found.media_type))
        if media_type in _LISTS or "manifests" in document:
            raise InvalidArgument(
                f"{reference} is a list of images, one for each architecture. Name the one to"
                f" append to: {reference.repository}@sha256:DIGEST"
            )
        match document:
            case {"config": {"mediaType": kind} as config, "layers": [*layers]} if (
                media_type in _LAYERS and kind in _CONFIGS
            ):
                return cls(media_type, document, Blob.of(config), tuple(map(Blob.of, layers)))
        raise InvalidArgument(
            f"{reference} is not an image of a program: its manifest is a {media_type}"
        )


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest and the configuration it names."""

    manifest: Manifest
    config: Mapping[str, Any]

    @classmethod
    def of(cls, reference: Reference, manifest: Manifest, content: bytes) -> Self:
        """Raises InvalidArgument for a configuration that cannot be extended by a layer."""
        config = _parse(content, f"The configuration of {reference}")
        count = len(manifest.layers)
        if count >= _MAX_LAYERS:
            raise InvalidArgument(
                f"{reference} has {count} layers, and an image has at most {_MAX_LAYERS}. Append"
                " to an image with fewer"
            )
        match config:
            case {"rootfs": {"diff_ids": [*diff_ids]}} if len(diff_ids) == count:
                return cls(manifest, config)
        raise InvalidArgument(
            f"The configuration of {reference} does not list the {count} layers of its manifest."
            " Build it again"
        )

    def extended(
        self, layer: Layer, made_by: str, environment: Mapping[str, str], labels: Mapping[str, str]
    ) -> tuple[Document, bytes]:
        """The manifest and the configuration of the image with one more layer.

        The configuration's `created` stays, so that equal images have equal digests.
        """
        rootfs, settings = self.config["rootfs"], self.config.get("config") or {}
        config = _serialised(
            {
                **self.config,
                "rootfs": {**rootfs, "diff_ids": [*rootfs["diff_ids"], layer.diff_id]},
                "history": [
                    *(self.config.get("history") or []),
                    {"created": "1970-01-01T00:00:00Z", "created_by": made_by},
                ],
                "config": {
                    **settings,
                    "Env": _merged(settings.get("Env") or [], environment),
                    "Labels": {**(settings.get("Labels") or {}), **labels},
                },
            }
        )
        return Document(self.manifest.media_type, self._manifest(layer, config)), config

    def _manifest(self, layer: Layer, config: bytes) -> bytes:
        base, added = self.manifest, layer.blob.descriptor(_LAYERS[self.manifest.media_type])
        return _serialised(
            {
                **base.document,
                "config": Blob.holding(config).descriptor(base.document["config"]["mediaType"]),
                "layers": [*base.document["layers"], added],
            }
        )


def _parse(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what} is not a JSON object")
    return document


def _serialised(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _merged(settings: list[str], environment: Mapping[str, str]) -> list[str]:
    """`NAME=value` of both; an existing name keeps its place and gets the new value."""
    values = {name: value for name, _, value in (text.partition("=") for text in settings)}
    return [f"{name}={value}" for name, value in {**values, **environment}.items()]
