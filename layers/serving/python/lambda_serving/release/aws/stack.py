"""The deployed stack: the names of its functions, and a gateway to each of its models."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from lambda_serving.errors import InvalidArgument
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws import images
from lambda_serving.release.aws.base_images import BaseImages
from lambda_serving.release.aws.bucket import BucketReleases
from lambda_serving.release.aws.build_orders import Builder, BuildFunction
from lambda_serving.release.aws.clients import connect, translate_errors
from lambda_serving.release.aws.deployed_model import AwsGateway
from lambda_serving.release.aws.lambda_functions import ModelFunction, image_of
from lambda_serving.release.aws.policy_file import PolicyFile
from lambda_serving.release.aws.routes import Routes
from lambda_serving.release.aws.traffic_shifts import Shifts
from lambda_serving.release.deciding.model_state import LIVE
from lambda_serving.store import s3_client

if TYPE_CHECKING:
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_codedeploy import CodeDeployClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client

__all__ = ["Clients", "System"]


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of AWS that a gateway needs; `connect` raises what `translate_errors` raises."""

    api: "ApiGatewayV2Client"
    codedeploy: "CodeDeployClient"
    functions: "LambdaClient"
    s3: "S3Client"

    @classmethod
    def connect(cls) -> Self:
        bucket = s3_client.connect("this account")
        api, codedeploy, functions = connect("apigatewayv2", "codedeploy", "lambda")
        return cls(api, codedeploy, functions, bucket)


@dataclass(frozen=True, slots=True)
class System:
    """A stack of `template.yaml`.

    `models` is the folder of its models, `s3://BUCKET/PREFIX`; `api_id` names its HTTP API. A model
    has the function STACK-MODEL; other functions have an underscore, which no stack has.
    `lite_base` is the function that holds the base image without TensorFlow; stacks that were
    deployed before there was one have none.
    """

    name: str
    models: str
    api_id: str
    lite_base: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The stack that these variables name; raises InvalidArgument if one is missing."""
        names = ("SYSTEM", "MODELS", "API_ID")
        if missing := [name for name in names if not environ.get(name)]:
            raise InvalidArgument(f"The release function's environment lacks {', '.join(missing)}")
        name, models, api_id = (environ[name] for name in names)
        return cls(name, models, api_id, environ.get("LITE_BASE", ""))

    @classmethod
    def deployed(cls, stack: str, functions: "LambdaClient") -> Self:
        """The stack, by the environment of its release function.

        Raises what `translate_errors` raises, and InvalidArgument if a variable is missing.
        """
        name = f"{stack}_release"
        with translate_errors(f"stack {stack}, function {name}"):
            found = functions.get_function_configuration(FunctionName=name)
        return cls.of(found.get("Environment", {}).get("Variables", {}))

    def model(self, base_path: str) -> str:
        """The name of the model in a base path; raises InvalidArgument if it is not the stack's."""
        models, _, model = base_path.rstrip("/").rpartition("/")
        if models != self.models.rstrip("/"):
            raise InvalidArgument(
                f"The models of stack {self.name} are in {self.models}, so a base path of it is"
                f" {self.models}/NAME, not {base_path}"
            )
        return model

    def serving(self, model: str, functions: "LambdaClient") -> set[int]:
        """The versions of a model that are live; raises what `translate_errors` raises."""
        return ModelFunction(f"{self.name}-{model}", functions).serving(LIVE)

    def look_now(self, model: str, functions: "LambdaClient") -> None:
        """Makes the release function look at a model now, and does not wait for the result.

        Raises what `translate_errors` raises.
        """
        name = f"{self.name}_release"
        with translate_errors(f"function {name}"):
            functions.invoke(
                FunctionName=name,
                InvocationType="Event",
                Payload=json.dumps({"model": model}).encode(),
            )

    def gateway(
        self,
        model: str,
        clients: Clients,
        report: Callable[[ServableId, str], None],
        builder: Builder | None = None,
        tell_address: Callable[[str, str, str], None] = lambda *_: None,
    ) -> AwsGateway:
        """The gateway to one model; the build function builds images unless `builder` is given.

        Raises InvalidArgument if `model` cannot be a model's name.
        """
        base_path, function = f"{self.models}/{model}", f"{self.name}-{model}"
        return AwsGateway(
            name=model,
            function=ModelFunction(function, clients.functions),
            routes=Routes(self.api_id, model, api=clients.api, functions=clients.functions),
            shifts=Shifts(self.name, function, clients.codedeploy),
            releases=BucketReleases(base_path, clients.s3),
            builder=builder or BuildFunction(f"{self.name}_build", clients.functions),
            policy=PolicyFile(base_path, clients.s3).read,
            bases=partial(self._bases, clients.functions),
            delete_image=images.delete,
            report=report,
            tell_address=tell_address,
        )

    def _bases(self, functions: "LambdaClient") -> BaseImages:
        full = image_of(f"{self.name}_base", functions)
        return BaseImages(full, image_of(self.lite_base, functions) if self.lite_base else None)
