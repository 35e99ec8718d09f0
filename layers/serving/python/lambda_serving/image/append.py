"""From an image, a folder and a name: an image in a registry that holds the folder too."""

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
    """The image at the target: its manifest's digest, and what it took to bring it there.

    `sent` counts the bytes of blobs and of the manifest that were uploaded; `new` is false when
    the target was this image before.
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

    `{digest}` in the target stands for the first digits of the image's own digest: such a tag
    never means another image, so that repositories whose tags are immutable take it.

    `environment` and `labels` are added to those of the base or replace them. The same base,
    files and settings give the same digest. The tag is written last: it is what it was before or
    complete. Base layers are mounted, or copied where the registry does not mount.

    Raises what `Registry` and `packed` raise, and InvalidArgument for a bad reference, a list of
    images as the base, and a base with too many layers.
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
    except AlreadyExists:  # of an answer that was lost, or another build that was quicker
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
    """Has the target hold these blobs of the source; how many bytes had to be copied."""
    mounted = source if source.host == target.host and source != target else None
    return sum(
        registry.put_blob(target, blob, partial(registry.stream, source, blob), mounted)
        for blob in blobs
    )
