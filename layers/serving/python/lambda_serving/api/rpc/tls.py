"""TLS of the gRPC server: an `SSLConfig` file (config/ssl_config.proto)."""

import ssl
from pathlib import Path
from typing import Any

import grpc

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.errors import InvalidArgument
from lambda_serving.store import temporary

__all__ = ["credentials"]


def credentials(path: str) -> grpc.ServerCredentials | None:
    """What a server shows its clients, and asks of them; None, no TLS, for no path.

    Raises InvalidArgument for a file without a key or certificate, or one that wants clients to
    have certificates and does not say of whom, naming the field that no server can use, and as
    `proto_text.read` does.
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
    _check(config, path)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _check(config: Any, path: str) -> None:
    """Has Python's `ssl` try what gRPC says of only that something is wrong with it.

    It reads a key from a file alone, which nobody else may read and which is gone at the end.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how long a key must be is gRPC's decision
    for name in ("server_cert", "custom_ca"):
        if pem := getattr(config, name):
            try:
                context.load_verify_locations(cadata=pem.encode("ascii", "replace").decode())
            except ssl.SSLError as error:
                raise InvalidArgument(
                    f"{name} of the config file {path} is no certificate in PEM"
                ) from error
    with temporary.folder() as folder:
        cert, key = folder / "cert", folder / "key"
        cert.write_text(config.server_cert, encoding="utf-8")
        key.write_text(config.server_key, encoding="utf-8")
        try:
            context.load_cert_chain(cert, key, password=lambda: b"")  # it would ask at a terminal
        except ssl.SSLError as error:
            raise InvalidArgument(
                f"server_key of the config file {path} is not the key of server_cert, in PEM and"
                " without a password"
            ) from error
