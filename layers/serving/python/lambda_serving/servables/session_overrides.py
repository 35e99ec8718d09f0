"""The session config that an export asks for in `assets.extra/saved_model_config.pb`.

Source: servables/tensorflow/saved_model_config_util.cc and saved_model_bundle_factory.cc. Neither
there nor here is an op rewriter linked that the two optimisers could use: TensorFlow skips them.
"""

import base64
import logging
from pathlib import Path

from lambda_serving import protos

__all__ = ["CONFIG", "overridden"]

CONFIG = "assets.extra/saved_model_config.pb"
_OPTIMISERS = {
    "remote_op_remap_config": ("remote_op_config_rewrite", "remote_op_rewrite_config"),
    "batch_op_rewriter_config": ("batch_op_rewriter", "batch_op_rewrite_config"),
}
"""For each field of the overrides, the optimiser that it configures and the parameter's name."""
_log = logging.getLogger(__name__)


def overridden(session_config: bytes, export_dir: Path) -> bytes:
    """The session's `tensorflow.ConfigProto` with the export's overrides.

    A file that cannot be read is logged and ignored.
    """
    path = export_dir / CONFIG
    if not path.exists():
        return session_config
    from google.protobuf.message import DecodeError  # few exports have one

    try:
        saved = protos.message("tensorflow.serving.SavedModelConfig").FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        _log.warning("Failed to load saved model config: %s: %s. It sets nothing", path, error)
        return session_config
    if not saved.HasField("session_overrides"):
        return session_config
    overrides = saved.session_overrides
    config = protos.message("tensorflow.ConfigProto").FromString(session_config)
    rewriting = config.graph_options.rewrite_options
    for field, (name, key) in _OPTIMISERS.items():
        if overrides.HasField(field):
            known = (each for each in rewriting.custom_optimizers if each.name == name)
            optimiser = next(known, None) or rewriting.custom_optimizers.add(name=name)
            optimiser.parameter_map[key].s = base64.b64encode(getattr(overrides, field))
    rewriting.disable_meta_optimizer = overrides.disable_meta_optimizer
    return bytes(config.SerializeToString())
