"""Orders for images of model versions, and the function that carries them out."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.base_images import BaseImages
from lambda_serving.release.aws.clients import translate_errors
from lambda_serving.release.deciding.model_state import Record

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["BuildFunction", "Builder", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """An image of that model version, whose files are those of `content`, on a base image.

    `base` and `lite_base` are those of `BaseImages`. `record` is the tag that the version's record
    had when the order was given, None if there was none. Orders of older release functions lack
    `record` and `lite_base`.
    """

    name: str
    version: int
    content: str
    base: str
    record: str | None = None
    lite_base: str | None = None

    @classmethod
    def of(cls, event: Any) -> Self:
        """Raises InvalidArgument for an event that is not an order."""
        match event:
            case {
                "name": str(name),
                "version": int(version),
                "content": str(content),
                "base": str(base),
            } if isinstance(record := event.get("record"), str | None) and isinstance(
                lite_base := event.get("lite_base"), str | None
            ):
                return cls(name, version, content, base, record, lite_base)
        raise InvalidArgument(f"The event is not an order for an image: {event!r:.200}")

    @property
    def servable(self) -> ServableId:
        return ServableId(self.name, self.version)

    @property
    def bases(self) -> BaseImages:
        return BaseImages(self.base, self.lite_base)

    def is_open(self, record: Record | None) -> bool:
        """Whether the version's record still lacks the outcome of this order.

        It does while it is as it was when the order was given, or says only that the image of this
        content on these base images was asked for.
        """
        if record is None:
            return self.record is None
        is_of_this = (record.content, record.base) == (self.content, self.bases.digests)
        is_building = record.asked is not None and record.image is None and record.error is None
        return record.tag == self.record or (is_of_this and is_building)


class Builder(Protocol):
    """Builds images of model versions; one that works `elsewhere` records the outcome itself."""

    @property
    def elsewhere(self) -> bool: ...

    def build(self, order: Order) -> str | None:
        """The digest of the image; None if the builder will record it.

        Raises the reason if there can be no image; Unavailable and PermissionDenied are not the
        model's fault.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuildFunction:
    """Leaves building to the function `name`, which takes minutes and has all of TensorFlow."""

    name: str
    client: "LambdaClient"

    @property
    def elsewhere(self) -> bool:
        return True

    def build(self, order: Order) -> None:
        with translate_errors(f"function {self.name}"):
            self.client.invoke(
                FunctionName=self.name,
                InvocationType="Event",
                Payload=json.dumps(asdict(order)).encode(),
            )
