"""TLS of the gRPC server: an `SSLConfig` file (config/ssl_config.proto)."""

from pathlib import Path

import grpc

from lambda_serving import proto_text, protos
from lambda_serving.errors import InvalidArgument

__all__ = ["credentials"]


def credentials(path: str) -> grpc.ServerCredentials | None:
    """What a server shows its clients, and asks of them; None, no TLS, for no path.

    Raises InvalidArgument for a file without a key or certificate, or one that wants clients to
    have certificates and does not say of whom, and as `proto_text.read` does.
    """
    if not path:
        return None
    config = proto_text.read(Path(path), protos.message("tensorflow.serving.SSLConfig"))
    for name in ("server_key", "server_cert"):
        if not getattr(config, name).strip():
            raise InvalidArgument(f"The config file {path} has no {name}, which is a text in PEM")
    if config.client_verify and not config.custom_ca:
        raise InvalidArgument(
            f"The config file {path} has client_verify, but no custom_ca to verify clients by"
        )
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
