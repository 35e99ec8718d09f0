"""The server's flags: those of `tensorflow_model_server` that are supported, and our own.

One table of fields defines the flags, their help and their defaults.
Source of names and defaults: model_servers/main.cc.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.config.flag_fields import Flag, flag, flags_of, switch
from lambda_serving.config.model_config import ModelConfig, check
from lambda_serving.config.model_server_config import read
from lambda_serving.config.servable_version_policy import Latest, Specific
from lambda_serving.errors import InvalidArgument

__all__ = ["Settings", "flags"]

_MAX_WORKERS = 64
_ON = 1  # RewriterConfig.Toggle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)  # either costs starts 1 ms
class Settings:
    """The settings of a server or a function; sizes are in bytes."""

    rest_api_port: int = flag(8501, "Port of the REST API; 0 for any free port", 0, 65535)
    rest_api_host: str = flag("127.0.0.1", "Address to listen on; 0.0.0.0 for all addresses [ours]")
    rest_api_num_threads: int = flag(4 * (os.cpu_count() or 1), "Threads that run predictions", 1)
    rest_api_timeout_in_ms: int = flag(30_000, "Timeout of one request; 0 for none")
    rest_api_enable_cors_support: bool = switch("Let web pages of any origin call the API")
    rest_api_max_body_bytes: int = flag(6 * 2**20, "Maximum size of a request body [ours]", 1)
    rest_api_max_unzipped_bytes: int = flag(
        32 * 2**20, "Maximum size of a request body after decompression [ours]", 1
    )
    rest_api_max_nesting: int = flag(10_000, "Maximum nesting depth of a JSON body [ours]", 1)
    port: int = flag(8500, "Port of the gRPC services; 0 for none", 0, 65535)
    grpc_host: str = flag("127.0.0.1", "Address of --port; 0.0.0.0 for all addresses [ours]")
    grpc_socket_path: str = flag("", "UNIX socket of the gRPC services, with or without --port")
    grpc_max_threads: int = flag(4 * (os.cpu_count() or 1), "Threads that answer gRPC calls", 1)
    grpc_timeout_in_ms: int = flag(
        600_000, "Maximum time of a gRPC call, even if its client allows more; 0 for none [ours]"
    )
    grpc_max_message_bytes: int = flag(
        256 * 2**20, "Maximum size of a gRPC request, also after decompression [ours]", 1, 2**31 - 1
    )
    grpc_channel_arguments: str = flag(
        "", "Channel arguments of the gRPC server: key=value,key=value"
    )
    ssl_config_file: str = flag("", "File with an SSLConfig in protobuf text: TLS for gRPC")
    enable_grpc_healthcheck_service: bool = switch("Also serve grpc.health.v1.Health")
    enable_serialization_as_tensor_content: bool = switch(
        "Use tensor_content in answers of gRPC's Predict"
    )
    model_name: str = flag("default", "Name of the model (without --model_config_file)")
    model_base_path: str = flag(
        "", "Folder of the model's versions (PATH/1, PATH/2, ...), absolute or s3://bucket/prefix"
    )
    model_version: int = flag(0, "Serve only this version; 0 for the largest [ours]", 0)
    model_config_file: str = flag(
        "", "File with a ModelServerConfig in protobuf text, for several models"
    )
    model_config_file_poll_wait_seconds: int = flag(
        0, "Seconds between reads of that file; 0 to read it once", 0
    )
    file_system_poll_wait_seconds: int = flag(
        1, "Seconds between searches for new versions; 0 or less to search once"
    )
    bucket_poll_wait_seconds: int = flag(
        30, "The same for buckets, if longer, as each search is a request [ours]", 1
    )
    reload_changed_versions: bool = switch(
        "Load a version again when its files have changed and been stable for one poll; it is not"
        " served meanwhile [ours]"
    )
    max_num_load_retries: int = flag(5, "Number of retries after a new version fails to load", 0)
    load_retry_interval_micros: int = flag(
        60_000_000, "Microseconds between those retries; 0 or less for none"
    )
    num_load_threads: int = flag(
        0, "Number of versions loaded in parallel while serving; 0 for one", 0
    )
    num_unload_threads: int = flag(0, "Number of versions unloaded in parallel; 0 for one", 0)
    workers: int = flag(1, "Number of serving processes, to use more cores [ours]", 1, _MAX_WORKERS)
    drain_seconds: int = flag(
        30, "Seconds for requests in flight to finish after SIGTERM [ours]", 1
    )
    client_timeout_seconds: int = flag(
        30, "Seconds that a client may stall while it sends a request or reads the answer [ours]", 1
    )
    allow_version_labels_for_unavailable_models: bool = switch(
        "Allow labels of versions that are not loaded"
    )
    enable_batching: bool = switch(
        "Join requests that arrive at the same time (server only, not functions)"
    )
    batching_parameters_file: str = flag("", "File with BatchingParameters in protobuf text")
    enable_per_model_batching_parameters: bool = switch(
        "Read all but the threads from batching_params.pbtxt in the SavedModel's folder"
    )
    monitoring_config_file: str = flag(
        "", "File with a MonitoringConfig in protobuf text: Prometheus metrics on the REST port"
    )
    access_log: bool = switch("Log a JSON line per prediction, and return x-request-id [ours]")
    saved_model_tags: str = flag("serve", "Comma-separated tags of the meta graph to load")
    enable_model_warmup: bool = switch(
        "Run the warm-up requests in assets.extra before a version serves", default=True
    )
    num_request_iterations_for_warmup: int = flag(
        0, "Number of times to run each warm-up request; 0 for once", 0
    )
    tensorflow_session_parallelism: int = flag(
        0, "Threads of a session, inside and between ops; 0 for TensorFlow's choice", 0
    )
    tensorflow_intra_op_parallelism: int = flag(
        0, "Threads inside an op; 0 for TensorFlow's choice", 0
    )
    tensorflow_inter_op_parallelism: int = flag(
        0, "Threads between ops; 0 for TensorFlow's choice", 0
    )
    tensorflow_session_config_file: str = flag("", "File with a ConfigProto in protobuf text")
    per_process_gpu_memory_fraction: float = flag(
        0.0, "Fraction of GPU memory for this process; 0 for TensorFlow's choice", 0
    )
    mixed_precision: str = flag(
        "", "bfloat16 to let oneDNN use it where it is safe; ignored for compiled models"
    )
    prefer_tflite_model: bool = switch(
        "Serve model.tflite, where a version's folder has it, with LiteRT"
    )
    num_tflite_pools: int = flag(
        os.cpu_count() or 1, "Interpreters of a LiteRT model that may run at once", 0
    )
    num_tflite_interpreters_per_pool: int = flag(1, "Multiplies --num_tflite_pools", 1)
    op_libraries: str = flag("", "Comma-separated paths of custom op libraries [ours]")
    cache_dir: str = flag(
        "", "Where to keep exports that had to be made loadable (default: user cache) [ours]"
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Settings of a function: each flag's variable is its name in upper case.

        An empty variable counts as unset. Raises InvalidArgument for a value that its flag refuses.
        """
        return cls(
            **{each.name: each.parse(environ.get(each.name.upper(), "")) for each in flags()}
        )

    def models(self, before: Sequence[ModelConfig] = ()) -> list[ModelConfig]:
        """The models to serve after those `before`, from the config file if there is one.

        Raises what `read` raises, and InvalidArgument when no flag names a model.
        """
        if self.model_config_file:
            return read(Path(self.model_config_file), before)
        if not self.model_base_path:
            raise InvalidArgument(
                "Which model? Give --model_base_path=/absolute/folder (with versions 1, 2, ...)"
                " or --model_config_file=FILE"
            )
        version = self.model_version
        policy = Specific(frozenset({version})) if version else Latest()
        models = [ModelConfig(self.model_name, self.model_base_path, policy)]
        check(models)
        return models

    @property
    def tflite_interpreters(self) -> int:
        """How many interpreters of a LiteRT model may run at once."""
        return max(1, self.num_tflite_pools) * self.num_tflite_interpreters_per_pool

    def session_config(self) -> bytes:
        """A serialized `tensorflow.ConfigProto`.

        Raises InvalidArgument for contradicting parallelism flags and for an unknown
        `mixed_precision` (servables/tensorflow/session_bundle_config.proto, server.cc).
        """
        threads = self.tensorflow_session_parallelism
        intra, inter = self.tensorflow_intra_op_parallelism, self.tensorflow_inter_op_parallelism
        if threads and (intra or inter):
            raise InvalidArgument(
                "--tensorflow_session_parallelism sets both kinds of threads; use it or"
                " --tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
            )
        path, fraction = self.tensorflow_session_config_file, self.per_process_gpu_memory_fraction
        if not any((threads, intra, inter, path, fraction, self.mixed_precision)):
            return b""  # an empty one; LiteRT does without protobuf
        config = _read_config(path)
        config.intra_op_parallelism_threads = (
            threads or intra or config.intra_op_parallelism_threads
        )
        config.inter_op_parallelism_threads = (
            threads or inter or config.inter_op_parallelism_threads
        )
        if fraction:
            config.gpu_options.per_process_gpu_memory_fraction = fraction
        if self.mixed_precision not in {"", "bfloat16"}:
            raise InvalidArgument(f"--mixed_precision is {self.mixed_precision!r}, not bfloat16")
        if self.mixed_precision:
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = _ON
        serialized: bytes = config.SerializeToString()
        return serialized


def flags() -> list[Flag]:
    """Every flag of the server, in the order of its help."""
    return flags_of(Settings)


def _read_config(path: str) -> Any:
    """The `ConfigProto` in a file; an empty one without a path."""
    message = protos.message("tensorflow.ConfigProto")
    return proto_text.read(Path(path), message) if path else message()
