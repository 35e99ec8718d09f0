"""The answers that are protocol messages printed as JSON: status and metadata."""

import json
from collections.abc import Sequence

from lambda_serving import protos
from lambda_serving.core.basic_manager import Loaded, VersionStatus

__all__ = ["metadata", "status"]


def status(statuses: Sequence[VersionStatus]) -> bytes:
    """`GetModelStatusResponse`, laid out as protobuf prints it."""
    versions = [
        {
            "version": str(status.version),
            "state": status.state.value,
            "status": {"error_code": status.error_code, "error_message": str(status.error or "")},
        }
        for status in statuses
    ]
    return (json.dumps({"model_version_status": versions}, indent=1) + "\n").encode()


def metadata(loaded: Loaded) -> bytes:
    """`GetModelMetadataResponse`: which version answers, and every signature of its export."""
    from google.protobuf.json_format import MessageToDict  # metadata alone pays for the import

    signatures = protos.message("tensorflow.serving.SignatureDefMap")()
    for name, definition in loaded.servable.definitions.items():
        signatures.signature_def[name].MergeFromString(definition)
    document = {
        "model_spec": {
            "name": loaded.id.name,
            "signature_name": "",
            "version": str(loaded.id.version),
        },
        "metadata": {
            "signature_def": MessageToDict(
                signatures,
                always_print_fields_with_no_presence=True,
                preserving_proto_field_name=True,
            )
        },
    }
    return (json.dumps(document, indent=1) + "\n").encode()
