"""The images without a model that versions of models are put on."""

from dataclasses import dataclass

__all__ = ["BaseImages"]


@dataclass(frozen=True, slots=True)
class BaseImages:
    """The base image that serves every model, and the one without TensorFlow.

    Each is `REPOSITORY@DIGEST`. A stack that was deployed before there were two has no `lite` one.
    Images of models go into the repository of the first.
    """

    full: str
    lite: str | None = None

    @property
    def repository(self) -> str:
        return self.full.partition("@")[0]

    @property
    def digests(self) -> str:
        """What tells one deployment of base images from another, for records."""
        found = (each.partition("@")[2] for each in (self.full, self.lite) if each)
        return " ".join(found)

    def of(self, *, without_tensorflow: bool) -> str:
        """The base image for a model that does or does not need TensorFlow."""
        return self.lite if self.lite and without_tensorflow else self.full
