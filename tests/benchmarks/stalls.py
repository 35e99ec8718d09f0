"""How long others wait for small answers while a server handles a heavy request.

The others ask for /healthz, and for predictions of a small model by REST and by gRPC, every few
milliseconds over connections of their own. The peer is an idle server of the same kind, asked the
same at the same time: it shows the delays of the machine itself.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import load
from benchmarks.children import child, python, report, tell
from benchmarks.rows import Row, Unit
from benchmarks.stalling import BODY, Send, Server, requests, write_models
from support.rpc_client import free_port

__all__ = ["measure"]

_MODELS = ("tiny", "floats", "strings", "many_floats", "many_strings", "product", "signatures")
_SECONDS = 3600


def measure(*, quick: bool, only: str = "") -> list[Row]:
    """A row for each kind of request, or for those with `only` in their names."""
    runs = 1 if quick else 3
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="lambda-serving-bench-"))
        )
        write_models(folder)
        subprocess.run(python("models.py", str(folder / "examples"), "examples"), check=True)
        (folder / "examples/examples").rename(folder / "examples/1")
        attacked, idle = (stack.enter_context(_server(folder)) for _ in range(2))
        targets = [
            f"{name}-{protocol}={getattr(server, protocol)}:{protocol}"
            for name, server in (("attacked", attacked), ("idle", idle))
            for protocol in ("http", "grpc")
        ]
        pings = stack.enter_context(child(python("pings.py", *targets), seconds=_SECONDS))
        rows = []
        for name, make in requests().items():
            if only in name:
                send = make()
                pairs = [_longest(pings, send, attacked) for _ in range(runs)]
                rows.append(Row.of(f"longest wait beside {name}", Unit.MILLISECONDS, pairs))
        return rows


def _longest(pings: "subprocess.Popen[str]", send: Send, server: Server) -> tuple[float, float]:
    """Milliseconds, for the server that gets the request and for the idle one."""
    tell(pings, 0)
    report(pings)
    send(server)
    tell(pings, 0)
    longest = report(pings)
    attacked, idle = (
        max(seconds for target, seconds in longest.items() if target.startswith(side))
        for side in ("attacked", "idle")
    )
    return 1000 * attacked, 1000 * idle


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    config, monitoring, port = folder / "models.config", folder / "monitoring.config", free_port()
    models = [
        f"config {{ name: '{name}' base_path: '{folder / name}' model_platform: 'tensorflow' }}"
        for name in (*_MODELS, "examples")
    ]
    config.write_text(f"model_config_list {{ {' '.join(models)} }}")
    monitoring.write_text("prometheus_config { enable: true path: '/metrics' }")
    command = load.ours(
        folder,
        f"--port={port}",
        f"--model_config_file={config}",
        f"--monitoring_config_file={monitoring}",
        f"--rest_api_max_body_bytes={BODY}",
    )
    command = [each for each in command if not each.startswith("--model_")] + [
        f"--model_config_file={config}"
    ]
    with child(command, seconds=_SECONDS) as server:
        address = load.address(server).removeprefix("http://")
        yield Server(address, f"127.0.0.1:{port}", str(config))
