"""Keeps a long-lived server's models as its folders, buckets and config file say.

Source: model_servers/server_core.{h,cc}.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from lambda_serving.config.model_config import ModelConfig, check
from lambda_serving.config.server_flags import Settings
from lambda_serving.core import threads
from lambda_serving.core.aspired_versions_manager import AspiredVersionsManager, Retries
from lambda_serving.core.basic_manager import Manager
from lambda_serving.core.storage_path_source import Source, Waits
from lambda_serving.errors import ServingError, Unknown
from lambda_serving.store import Store

__all__ = ["ServerCore"]

_log = logging.getLogger(__name__)


class ServerCore:
    """Inside a `with` block, follows changes to the models that `manager` serves.

    One thread polls for versions, one decides what to load and unload, and one polls the config
    file; loads and unloads run on threads of their own. `configured` is called with the models of
    each new config.
    """

    def __init__(
        self,
        manager: Manager,
        models: Sequence[ModelConfig],
        settings: Settings,
        open_store: Callable[[Sequence[ModelConfig]], Store],
        configured: Callable[[Sequence[ModelConfig]], None] | None = None,
    ) -> None:
        self._manager = manager
        self._models = list(models)
        self._settings = settings
        self._open_store = open_store
        self._configured = configured
        self._reloading = threading.Lock()
        self._stopping = threading.Event()
        self._said = ""
        self._loads = ThreadPoolExecutor(settings.num_load_threads or 1, "load")
        self._unloads = ThreadPoolExecutor(settings.num_unload_threads or 1, "unload")
        retry_seconds = max(settings.load_retry_interval_micros, 0) / 1e6
        self._versions = AspiredVersionsManager(
            manager,
            loads=self._loads,
            unloads=self._unloads,
            retries=Retries(settings.max_num_load_retries, retry_seconds),
        )
        self._source = Source(
            self._versions.aspire,
            Waits(settings.file_system_poll_wait_seconds, settings.bucket_poll_wait_seconds),
            reloads=settings.reload_changed_versions,
        )
        self._source.configure(models, manager.store)
        self._threads = ExitStack()

    def __enter__(self) -> Self:
        self._run("manager", self._versions.step)
        if self._settings.file_system_poll_wait_seconds > 0:
            self._run("source", self._poll_versions)
        if self._settings.model_config_file and self._settings.model_config_file_poll_wait_seconds:
            self._run("config", self._poll_config)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._versions.stop()
        self._threads.close()
        self._loads.shutdown(cancel_futures=True)
        self._unloads.shutdown()

    def is_complete(self) -> bool:
        """Whether every model has a loaded version."""
        return self._manager.ready()

    def reload(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the served models with these, and waits for the new ones to load.

        Raises, before anything changes, what `check` raises. Raises Unknown, a code that clients do
        not retry, when a version of a new model did not load; loading is retried all the same.
        """
        with self._reloading:
            check(models, self._models)
            store = self._open_store(models)
            labels_may_wait = self._settings.allow_version_labels_for_unavailable_models
            self._manager.configure(models, store, labels_may_wait=labels_may_wait)
            new = {model.name for model in models} - {model.name for model in self._models}
            if self._configured:
                self._configured(models)
            self._source.configure(models, store)
            self._models = list(models)  # only now: a call that fails above is repeated in full
            self._source.poll()
            problems = [problem for name in sorted(new) if (problem := self._source.problem(name))]
            if failures := problems + self._versions.settle(new):
                raise Unknown(
                    f"{len(failures)} model(s) did not become available: {'; '.join(failures)}"
                )

    def check(self, models: Sequence[ModelConfig]) -> None:
        """Raises what is wrong with a config, before anything changes.

        That is what `model_config.check` and opening the store raise, and FailedPrecondition for a
        label whose version is not loaded.
        """
        check(models, self._models)
        self._open_store(models)
        labels_may_wait = self._settings.allow_version_labels_for_unavailable_models
        self._manager.check_labels(models, labels_may_wait=labels_may_wait)

    def read_config(self) -> None:
        """Applies the config file as it is now; logs each new problem with it once."""
        try:
            models = self._settings.models(self._models)
            if models != self._models:
                self.reload(models)
        except ServingError as error:
            if str(error) != self._said:
                _log.error("%s", error)
            self._said = str(error)
        else:
            self._said = ""

    def _poll_versions(self) -> bool:
        return not self._stopping.wait(self._source.poll())

    def _poll_config(self) -> bool:
        if self._stopping.wait(self._settings.model_config_file_poll_wait_seconds):
            return False
        self.read_config()
        return True

    def _run(self, name: str, step: Callable[[], bool]) -> None:
        self._threads.callback(threads.start(name, step).join)
