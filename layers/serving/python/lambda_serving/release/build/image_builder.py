"""Builds images of model versions: compiles a version and appends it to the base image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_serving.compile.isolated import Outcome, compile_apart
from lambda_serving.compile.runtimes import AUTO, LITERT, TENSORFLOW
from lambda_serving.image import Registry, append
from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws.build_orders import Order
from lambda_serving.servables import compiled_folder
from lambda_serving.servables.litert.compiled_folder import is_compiled as is_compiled_for_litert
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.store import Store, temporary

__all__ = ["RegistryBuilder"]


@dataclass(frozen=True, slots=True)
class RegistryBuilder:
    """`release.build.Builder` that fetches a version from `store` and compiles it here.

    It is compiled for `runtime`, one of `compile.runtimes.CHOICES`; a version that is compiled
    already is taken as it is, and the image is put on the base image that its runtime needs.
    It is tagged `NAME-VERSION-DIGEST`, beside the full base image; `registry` opens the ones that
    base images are in. Compiling may take `timeout_s`. `tell` hears what became of each version.
    Raises what the store, compiling and the registry raise.

    The disk must have room for the version twice, as fetched and as compiled, and three times if
    only its object graph restores it. The layer is packed without a copy.
    """

    registry: Callable[..., Registry]
    store: Store
    op_libraries: Sequence[str] = ()
    timeout_s: float | None = None
    tell: Callable[[ServableId, Outcome], None] = lambda *_: None
    runtime: str = AUTO

    @property
    def elsewhere(self) -> bool:
        return False

    def build(self, order: Order) -> str:
        name, version = order.name, order.version
        with temporary.folder("lambda-serving-build-") as folder:
            made = self._compiled(order.servable, folder)
            base = order.bases.of(without_tensorflow=is_compiled_for_litert(made))
            appended = append(
                self.registry(order.base, base),
                base,
                made,
                f"/models/{name}/{version}",
                f"{order.bases.repository}:{name}-{version}-{{digest}}",
                {"MODEL_NAME": name, "MODEL_BASE_PATH": f"/models/{name}"},
            )
        return appended.digest

    def _compiled(self, servable: ServableId, folder: Path) -> Path:
        """The folder to put into the image; raises as `build` does."""
        source = self.store.fetch(servable)
        if compiled_folder.is_compiled(source):
            for_litert = is_compiled_for_litert(source)
            if not for_litert:
                compiled_folder.check(source, library.version())
            runtime = LITERT if for_litert else TENSORFLOW
            self.tell(servable, Outcome("it is compiled already", runtime=runtime))
            return source
        made = folder / "model"
        outcome = compile_apart(
            source,
            made,
            op_libraries=self.op_libraries,
            timeout_s=self.timeout_s,
            runtime=self.runtime,
        )
        self.tell(servable, outcome)
        self.store.release(servable)  # frees the disk for what follows
        return made
