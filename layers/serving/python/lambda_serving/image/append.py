"""Writes an image to a registry that adds a folder to an existing image."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lambda_serving.errors import AlreadyExists, InvalidArgument
from lambda_serving.image.layer import packed
from lambda_serving.image.manifest import Image, Manifest
from lambda_serving.image.reference import Blob, Reference, Repository
from lambda_serving.image.registry import Registry

__all__ = ["Appended", "append"]

_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Appended:
    """The image at the target: its manifest's digest, and what was uploaded.

    `sent` counts the uploaded bytes of blobs and manifest; `new` is false if the target already was
    this image.
    """

    digest: str
    sent: int
    new: bool


def append(
    registry: Registry,
    base: str,
    folder: Path,
    place: str,
    target: str,
    environment: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Appended:
    """Writes the image `base` with `folder` at `place`, an absolute path, to the tag `target`.

    `{digest}` in the target becomes the first digits of the image's digest. Such a tag always means
    the same image, so repositories with immutable tags accept it again.

    `environment` and `labels` are added to the base's, and replace equal names. The same base,
    files and settings give the same digest. The tag is written last, so it never names an
    incomplete image. Base layers are mounted, or copied if the registry cannot mount them.

    Raises what `Registry` and `packed` raise, and InvalidArgument for a bad reference, for a list
    of images as the base, and for a base with too many layers.
    """
    source, destination = Reference.of(base), _named(target, "0" * _DIGITS)
    if not destination.tag:
        raise InvalidArgument(f"The image cannot be written to {target}. Name a tag, not a digest")
    image = _read(registry, source)
    layer = packed(folder, place)
    made_by = f"lambda-serving append {place}"
    manifest, config = image.extended(layer, made_by, environment or {}, labels or {})
    destination = _named(target, manifest.digest.partition(":")[2])
    if registry.find_manifest(destination) == manifest:
        return Appended(manifest.digest, sent=0, new=False)
    sent = _bring(registry, image.manifest.layers, source.repository, destination.repository)
    sent += registry.put_blob(destination.repository, layer.blob, layer.content)
    sent += registry.put_blob(destination.repository, Blob.holding(config), partial(iter, [config]))
    try:
        registry.put_manifest(destination, manifest)
    except AlreadyExists:  # an earlier answer was lost, or another build was first
        if registry.find_manifest(destination) != manifest:
            raise
    return Appended(manifest.digest, sent + len(manifest.content), new=True)


def _named(target: str, digest: str) -> Reference:
    return Reference.of(target.replace("{digest}", digest[:_DIGITS]))


def _read(registry: Registry, reference: Reference) -> Image:
    manifest = Manifest.of(reference, registry.manifest(reference))
    return Image.of(reference, manifest, registry.blob(reference.repository, manifest.config))


def _bring(
    registry: Registry, blobs: Iterable[Blob], source: Repository, target: Repository
) -> int:
    """Mounts or copies blobs from the source to the target; returns the bytes copied."""
    mounted = source if source.host == target.host and source != target else None
    return sum(
        registry.put_blob(target, blob, partial(registry.stream, source, blob), mounted)
        for blob in blobs
    )
