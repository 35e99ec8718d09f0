"""What is asked of who builds images, and of the build function in particular."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.clients import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

__all__ = ["BuildFunction", "Builder", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """An image of that model version, whose files are those of `content`, on the image `base`.

    `base` is `REPOSITORY@DIGEST`; the image goes into the same repository.
    """

    name: str
    version: int
    content: str
    base: str

    @classmethod
    def of(cls, event: Any) -> Self:
        """Raises InvalidArgument for an event that is no order."""
        match event:
            case {
                "name": str(name),
                "version": int(version),
                "content": str(content),
                "base": str(base),
            }:
                return cls(name, version, content, base)
        raise InvalidArgument(f"The event is no order of an image: {event!r:.200}")

    @property
    def servable(self) -> ServableId:
        return ServableId(self.name, self.version)


class Builder(Protocol):
    """Makes images of model versions, here or `elsewhere`: then it records the outcome itself."""

    @property
    def elsewhere(self) -> bool: ...

    def build(self, order: Order) -> str | None:
        """The digest of the image, None when it will be recorded.

        Raises what makes it impossible; Unavailable and PermissionDenied when that is no fault
        of the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuildFunction:
    """Has the function `name` build: it takes minutes and has all of TensorFlow."""

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
