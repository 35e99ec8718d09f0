"""TLS of the gRPC server, from an `SSLConfig` file (config/ssl_config.proto)."""

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
    """The certificate of a server, and what it requires of clients; None, no TLS, for no path.

    Raises InvalidArgument, naming the field, for a file with a key or certificate that is missing
    or wrong, or one that verifies clients without a `custom_ca`, and what `proto_text.read` raises.
    """
    if not path:
        return None
    config = proto_text.read(Path(path), protos.message("tensorflow.serving.SSLConfig"))
    for name in ("server_key", "server_cert"):
        if not getattr(config, name).strip():
            raise InvalidArgument(f"The config file {path} has no {name}. Set it to text in PEM")
    if config.client_verify and not config.custom_ca:
        raise InvalidArgument(
            f"The config file {path} has client_verify, but no custom_ca to verify clients with"
        )
    _check(config, path)
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _check(config: Any, path: str) -> None:
    """Lets Python's `ssl` load the config first, because gRPC does not say what is wrong with one.

    `ssl` reads keys only from files: this one is private, and deleted at the end.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # gRPC decides how long a key must be
    for name in ("server_cert", "custom_ca"):
        if pem := getattr(config, name):
            try:
                context.load_verify_locations(cadata=pem.encode("ascii", "replace").decode())
            except ssl.SSLError as error:
                raise InvalidArgument(
                    f"{name} in the config file {path} is not a certificate in PEM"
                ) from error
    with temporary.folder() as folder:
        cert, key = folder / "cert", folder / "key"
        cert.write_text(config.server_cert, encoding="utf-8")
        key.write_text(config.server_key, encoding="utf-8")
        try:
            # without a password, it would ask for one at the terminal
            context.load_cert_chain(cert, key, password=lambda: b"")
        except ssl.SSLError as error:
            raise InvalidArgument(
                f"server_key in the config file {path} is not the key of server_cert, in PEM and"
                " without a password"
            ) from error
