"""gRPC with certificates of the server, of clients too, and of neither."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from lambda_serving import protos
from lambda_serving.api.rpc.grpc_server import serving
from lambda_serving.config import proto_text
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import InvalidArgument, NotFound, Unavailable
from support.rpc_client import arrays, call, free_port, predict_request

Write = Callable[..., str]
_AUTHORITY, _OTHER_AUTHORITY = trustme.CA(), trustme.CA()
_SERVER = _AUTHORITY.issue_cert("localhost")
_KEY, _CERT = _SERVER.private_key_pem.bytes().decode(), _SERVER.cert_chain_pems[0].bytes().decode()
_CA = _AUTHORITY.cert_pem.bytes()
_TLS = {"server_key": _KEY, "server_cert": _CERT}
_MUTUAL = {**_TLS, "custom_ca": _CA.decode(), "client_verify": True}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes an `SSLConfig`; the file."""

    def write(**fields: Any) -> str:
        path = tmp_path / "ssl.config"
        config = protos.message("tensorflow.serving.SSLConfig")(**fields)
        path.write_text(proto_text.written(config))
        return str(path)

    return write


@contextmanager
def _channel(
    manager: Manager, ssl_config_file: str, client: trustme.LeafCert | None = None
) -> Iterator[grpc.Channel]:
    settings = Settings(port=free_port(), ssl_config_file=ssl_config_file)
    key = client.private_key_pem.bytes() if client else None
    chain = client.cert_chain_pems[0].bytes() if client else None
    credentials = grpc.ssl_channel_credentials(_CA, key, chain)
    with (
        serving(manager, settings),
        grpc.secure_channel(f"localhost:{settings.port}", credentials) as channel,
    ):
        yield channel


def _predicts(channel: grpc.Channel) -> bool:
    response = call(channel, "Predict", predict_request("half_plus_two", {"x": [1]}))
    return bool(arrays(response)["y"] == [2.5])


def _refused(channel: grpc.Channel) -> bool:
    with pytest.raises(grpc.RpcError) as raised:
        _predicts(channel)
    error: Any = raised.value
    return error.code() is grpc.StatusCode.UNAVAILABLE


def test_server_shows_its_certificate(manager: Manager, write: Write) -> None:
    with _channel(manager, write(**_TLS)) as channel:
        assert _predicts(channel)


def test_clients_need_a_certificate_of_the_authority(manager: Manager, write: Write) -> None:
    with _channel(manager, write(**_MUTUAL), _AUTHORITY.issue_cert("client")) as channel:
        assert _predicts(channel)
    with _channel(manager, write(**_MUTUAL)) as channel:
        assert _refused(channel)
    with _channel(manager, write(**_MUTUAL), _OTHER_AUTHORITY.issue_cert("client")) as channel:
        assert _refused(channel)


def test_client_without_tls_gets_nothing(manager: Manager, write: Write) -> None:
    settings = Settings(port=free_port(), ssl_config_file=write(**_TLS))
    with (
        serving(manager, settings),
        grpc.insecure_channel(f"localhost:{settings.port}") as channel,
    ):
        assert _refused(channel)


_BROKEN = _CERT.replace("\nM", "\nA", 1)
_LOCKED_KEY = (
    serialization.load_pem_private_key(_KEY.encode(), None)
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    .decode()
)
_OTHER_KEY = _OTHER_AUTHORITY.issue_cert("localhost").private_key_pem.bytes().decode()


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"server_cert": _CERT}, InvalidArgument, "has no server_key. Set it to text in PEM"),
        ({"server_key": _KEY}, InvalidArgument, "has no server_cert. Set it to text in PEM"),
        ({**_TLS, "client_verify": True}, InvalidArgument, "no custom_ca to verify clients with"),
        ({**_TLS, "server_key": "secret"}, InvalidArgument, "server_key in .*ssl.config is not"),
        ({**_TLS, "server_key": _OTHER_KEY}, InvalidArgument, "server_key in .*ssl.config is not"),
        ({**_TLS, "server_key": _LOCKED_KEY}, InvalidArgument, "and without a password"),
        ({**_TLS, "server_key": _CERT}, InvalidArgument, "server_key in .*ssl.config is not"),
        (
            {**_TLS, "server_cert": "path/to/cert"},
            InvalidArgument,
            "server_cert in .* is not a cert",
        ),
        ({**_TLS, "server_cert": "é"}, InvalidArgument, "server_cert in .* is not a cert"),
        ({**_TLS, "server_cert": _BROKEN}, InvalidArgument, "server_cert in .* is not a cert"),
        ({**_MUTUAL, "custom_ca": "ca.pem"}, InvalidArgument, "custom_ca in .* is not a cert"),
    ],
)
def test_config_that_no_server_can_use_is_reported(
    manager: Manager, write: Write, fields: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised, _channel(manager, write(**fields)):
        pass
    assert "secret" not in str(raised.value)


def test_invalid_config_is_reported(manager: Manager, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="/nowhere"), _channel(manager, "/nowhere"):
        pass
    unreadable = f"Could not read the config file {tmp_path}: Is a directory"
    with pytest.raises(NotFound, match=unreadable), _channel(manager, str(tmp_path)):
        pass
    (tmp_path / "ssl.config").write_text("server_keys: 'x'")
    with (
        pytest.raises(InvalidArgument, match="not valid"),
        _channel(manager, str(tmp_path / "ssl.config")),
    ):
        pass


def test_port_that_is_taken_is_reported(manager: Manager) -> None:
    settings = Settings(port=free_port())
    with (
        serving(manager, settings),
        pytest.raises(Unavailable, match=f"127.0.0.1:{settings.port}"),
        serving(manager, settings),
    ):
        pass
