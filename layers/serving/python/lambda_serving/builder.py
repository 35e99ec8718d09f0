"""Images of model versions: compiled, and put on the base image in its registry."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.report import Report
from lambda_serving.image import Registry, append
from lambda_serving.model_spec import ServableId
from lambda_serving.store import Store

__all__ = ["RegistryBuilder"]


@dataclass(frozen=True, slots=True)
class RegistryBuilder:
    """`release.gateway.Builder` that fetches a version from `store` and compiles it here.

    Its image is tagged `NAME-VERSION` in `repository`, `HOST/NAME`; `base_tag` is the tag there of
    the image without a model. `tell` hears what became of each version. Raises what the store,
    compiling and the registry raise.
    """

    registry: Registry
    repository: str
    base_tag: str
    store: Store
    op_libraries: Sequence[str] = ()
    tell: Callable[[ServableId, Report], None] = lambda *_: None

    def base(self) -> str:
        return self.registry.digest(f"{self.repository}:{self.base_tag}")

    def build(self, servable: ServableId) -> str:
        name, version = servable.name, servable.version
        with tempfile.TemporaryDirectory(prefix="lambda-serving-build-") as folder:
            compiled = Path(folder, "model")
            report = compile_saved_model(
                self.store.fetch(servable), compiled, op_libraries=self.op_libraries
            )
            self.tell(servable, report)
            appended = append(
                self.registry,
                f"{self.repository}:{self.base_tag}",
                compiled,
                f"/models/{name}/{version}",
                f"{self.repository}:{name}-{version}",
                {"MODEL_NAME": name, "MODEL_BASE_PATH": f"/models/{name}"},
            )
        return appended.digest
