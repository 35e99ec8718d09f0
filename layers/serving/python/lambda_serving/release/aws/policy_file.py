"""The file `models.config` beside the models: which versions are released, and their labels.

It is TensorFlow Serving's `ModelServerConfig` in protobuf text, so servers read the same file. The
file for `s3://bucket/models/MLP` is `s3://bucket/models/models.config`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lambda_serving.config.model_config import LABEL, ModelConfig
from lambda_serving.config.model_server_config import edited, parse
from lambda_serving.errors import Aborted, InvalidArgument
from lambda_serving.store.address import Address
from lambda_serving.store.s3_client import S3Folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["PolicyFile"]

_FILE = "models.config"
_NO_MODELS = b"model_config_list {}"
_ATTEMPTS = 5


class PolicyFile:
    """The entry of the model with the base path `s3://bucket/prefix/NAME`; `str` is its path.

    Raises InvalidArgument for a base path without a name. Every method raises what
    `store.s3_client` makes of S3's errors, and InvalidArgument, with address and line, if the file
    is not such a config.
    """

    def __init__(self, base_path: str, client: "S3Client | None" = None) -> None:
        self._base_path = Address.in_bucket(base_path)
        models, self.name = self._base_path.parent_and_name()
        self._models = S3Folder(models, client)

    def __str__(self) -> str:
        return f"{self._models}/{_FILE}"

    def read(self) -> ModelConfig:
        """The model's policy and labels, in one request.

        Without a file, or without the model in it: the latest version and no labels.
        """
        return self._model(self._get()[0])

    def change(self, edit: Callable[[ModelConfig], ModelConfig]) -> ModelConfig:
        """Changes the model's policy and labels by `edit`, and returns them. Others stay.

        If somebody else changes the file meanwhile, it is read and edited again, so no change is
        lost, unless the store ignores conditions (`S3Folder.put`). An edit without effect writes
        nothing. Raises Aborted after some attempts.
        """
        for _ in range(_ATTEMPTS):
            text, etag = self._get()
            before = self._model(text)
            after = edit(before)
            if after == before:
                return after
            content = edited(text, self, after).encode()
            if self._models.put(_FILE, content, "text/plain", etag):
                return after
        raise Aborted(f"Could not write {self}: others keep changing it. Run this again")

    def _model(self, text: bytes) -> ModelConfig:
        found = [model for model in parse(text, self) if model.name == self.name]
        if len(found) > 1:
            raise InvalidArgument(f"Illegal to list model {self.name} multiple times in {self}")
        labels = found[0].labels if found else ()
        if bad := [label for label in labels if not LABEL.fullmatch(label)]:
            raise InvalidArgument(
                f"The label {bad[0]!r} of model {self.name} in {self} must be 1 to 100 of A-Z, a-z,"
                " 0-9, _ and -"
            )
        base_path = str(self._base_path)  # a server's, in the file, may be another
        return (
            replace(found[0], base_path=base_path) if found else ModelConfig(self.name, base_path)
        )

    def _get(self) -> tuple[bytes, str | None]:
        """The text and its ETag; without a file, the text of no models and None."""
        return self._models.find(_FILE) or (_NO_MODELS, None)
