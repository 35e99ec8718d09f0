"""The state of each version of each model, for the status call.

Source: core/servable_state_monitor.h, apis/get_model_status.proto.
"""

import logging
import threading
from enum import Enum
from typing import NamedTuple

from lambda_serving.errors import Code, NotFound, ServingError
from lambda_serving.model_spec import ServableId

__all__ = ["ServableStates", "State", "VersionStatus"]

_log = logging.getLogger(__name__)


class State(Enum):
    """The stages of a version's life (apis/get_model_status.proto)."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


class VersionStatus(NamedTuple):
    """One entry of the status call; `error` is why the last load failed, if it did."""

    version: int
    state: State
    error: ServingError | None = None

    @property
    def error_code(self) -> str:
        return Code(self.error.code).name if self.error else "OK"


class ServableStates:
    """The last state of every version ever seen, including those that have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, dict[int, VersionStatus]] = {}

    def report(
        self, servable_id: ServableId, state: State, error: ServingError | None = None
    ) -> None:
        """Stores the state, and logs it if it changed."""
        if error:  # a copy without the traceback, whose frames would keep the servable alive
            error = type(error)(str(error))
        status = VersionStatus(servable_id.version, state, error)
        with self._lock:
            versions = self._models.get(servable_id.name, {})
            before = versions.get(servable_id.version)
            self._models[servable_id.name] = {**versions, servable_id.version: status}
        if before is None or (before.state, str(before.error)) != (state, str(error)):
            _log.info("%s: %s%s", servable_id, state.value, f" ({error})" if error else "")

    def of(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Every known version of a model, or one of them, largest first.

        Raises NotFound in the words of servables/tensorflow/get_model_status_impl.cc.
        """
        known = self._models.get(name, {})
        if version is not None:
            if version not in known:
                raise NotFound(f"Could not find version {version} of model {name}")
            return [known[version]]
        if not known:
            raise NotFound(f"Could not find any versions of model {name}")
        return [known[number] for number in sorted(known, reverse=True)]
