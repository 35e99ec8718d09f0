"""Whether a deployed stack would serve a version, before it is pushed there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lambda_serving.config.servable_version_policy import aspired
from lambda_serving.errors import FailedPrecondition, NotFound
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.lambda_functions import ModelFunction
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.aws.stack import Clients, System
from lambda_serving.release.deciding.model_state import LIVE, Origin
from lambda_serving.store.address import Address
from lambda_serving.store.s3_client import S3Folder

__all__ = ["ServedModel", "stack_of"]

_TAG = "lambda-serving"
"""The tag of a stack's bucket, and of its functions, with the stack's name as value."""
_UNCHECKED = "or push with --no-check"


def stack_of(base_path: str) -> str:
    """The name of the stack that serves the models in a bucket, from the bucket's tag.

    Raises NotFound if there is none, and what `store.s3_client` makes of S3's errors.
    """
    address = Address.in_bucket(base_path)
    if stack := S3Folder(address).bucket_tags().get(_TAG):
        return stack
    raise NotFound(
        f"No stack serves {base_path}, as far as can be seen: the bucket {address.bucket} has no"
        f" tag {_TAG}, which stacks give theirs. Name the stack with --stack, deploy it again,"
        f" {_UNCHECKED}"
    )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a stack serves by a function, and which version of it is live.

    `live` is what the live function version was made from, None for the image of the template.
    """

    base_path: str
    function: ModelFunction
    live: Origin | None

    @classmethod
    def of(cls, base_path: str, system: System, clients: Clients) -> Self:
        """The model of a base path.

        Raises NotFound if the stack has no function for it, and InvalidArgument if the models of
        the stack lie elsewhere.
        """
        name = system.model(base_path)
        function = ModelFunction(f"{system.name}-{name}", clients.functions)
        try:
            live = function.origin(function.alias(LIVE).function_version)
        except NotFound as error:
            raise NotFound(
                f"Stack {system.name} serves no model {name} by a function ({error}). Add the"
                f" model's block to the template and deploy it, {_UNCHECKED}, as for a model on a"
                " GPU"
            ) from error
        return cls(base_path, function, live)

    def check_released(self, version: int, clients: Clients) -> None:
        """Raises FailedPrecondition unless a version would be released once it is complete."""
        policy = PolicyFile(self.base_path, clients.s3).read().policy
        found = BucketReleases(self.base_path, clients.s3).versions()
        wanted = aspired(policy, {*found.complete, *found.settling, version})
        if version not in wanted:
            listed = ", ".join(map(str, wanted)) or "none"
            raise FailedPrecondition(
                f"Version {version} of {self.base_path} would not be released: its policy is"
                f" {policy}, which asks for these versions: {listed}. Choose another number, change"
                f" the policy, as with `lambda-serving set-policy {self.base_path} latest`,"
                f" {_UNCHECKED}"
            )

    def metadata(self) -> Mapping[str, Any]:
        """What the function behind `live` returns for a GET of the model's metadata.

        Raises RuntimeError if the function fails, and what `translate_errors` raises.
        """
        name = self.base_path.rstrip("/").rpartition("/")[2]
        event = {"method": "GET", "path": f"/v1/models/{name}/metadata"}
        answer: Mapping[str, Any] = self.function.invoke(LIVE, event)
        return answer
