"""A proxy that stands in for a host on the internet: it ends TLS, and asks a port here.

Clients find it by `https_proxy`, and trust its certificate by `SSL_CERT_FILE`.
"""

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import trustme

__all__ = ["running"]

_CHUNK = 2**16


@contextmanager
def running(host: str, port: int, folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment in which `https://HOST` is what listens at `port` on this machine."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    authority.cert_pem.write_to_path(folder / "ca.pem")

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            asked = self.request.makefile("rb")
            assert asked.readline().split()[:2] == [b"CONNECT", f"{host}:443".encode()]
            while asked.readline().strip():
                pass
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with (
                suppress(OSError),  # the client does not trust us, or has gone away
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", port)) as server,
            ):
                server.sendall(_request(client))
                while chunk := server.recv(_CHUNK):
                    client.sendall(chunk)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield {
                "https_proxy": f"http://127.0.0.1:{proxy.server_address[1]}",
                "SSL_CERT_FILE": str(folder / "ca.pem"),
            }
        finally:
            proxy.shutdown()
            thread.join()


def _request(client: socket.socket) -> bytes:
    """The one request of a connection, which the client wants to be closed afterwards."""
    with client.makefile("rb") as sent:
        lines = [*iter(sent.readline, b"\r\n")]
        [length] = [line.split()[1] for line in lines if line.lower().startswith(b"content-length")]
        assert b"Connection: close\r\n" in lines
        return b"".join((*lines, b"\r\n", sent.read(int(length))))
