"""Images of model versions: compiled, and put on the base image in its registry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lambda_serving import temporary
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.report import Report
from lambda_serving.image import Registry, append
from lambda_serving.model_spec import ServableId
from lambda_serving.release.build import Order
from lambda_serving.store import Store

__all__ = ["RegistryBuilder"]


@dataclass(frozen=True, slots=True)
class RegistryBuilder:
    """`release.build.Builder` that fetches a version from `store` and compiles it here.

    Its image is tagged `NAME-VERSION`, beside the base image; `registry` opens the one that a base
    image is in. `tell` hears what became of each version. Raises what the store, compiling and
    the registry raise.
    """

    registry: Callable[[str], Registry]
    store: Store
    op_libraries: Sequence[str] = ()
    tell: Callable[[ServableId, Report], None] = lambda *_: None

    @property
    def elsewhere(self) -> bool:
        return False

    def build(self, order: Order) -> str:
        name, version = order.name, order.version
        repository = order.base.partition("@")[0]
        with temporary.folder("lambda-serving-build-") as folder:
            compiled = folder / "model"
            report = compile_saved_model(
                self.store.fetch(order.servable), compiled, op_libraries=self.op_libraries
            )
            self.tell(order.servable, report)
            appended = append(
                self.registry(order.base),
                order.base,
                compiled,
                f"/models/{name}/{version}",
                f"{repository}:{name}-{version}",
                {"MODEL_NAME": name, "MODEL_BASE_PATH": f"/models/{name}"},
            )
        return appended.digest
