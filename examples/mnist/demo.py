"""Serves `saved`, asks it for the first ten test digits, shows how to ask with curl, stops it."""

import re
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_LISTENING = re.compile(r"REST API at: (http://\S+)")
_CURL = """
To do the same by hand, start the server in one terminal:

    .venv/bin/lambda-serving serve --model_name=MLP --rest_api_port=8501 \\
        --model_base_path=$PWD/examples/mnist/saved

and ask it in another:

    curl -d @examples/mnist/request.json http://localhost:8501/v1/models/MLP:predict
"""


def main() -> int:
    serve = Path(sys.executable).with_name("lambda-serving")
    server = subprocess.Popen(
        [
            serve,
            "serve",
            "--model_name=MLP",
            f"--model_base_path={_HERE.resolve() / 'saved'}",
            "--rest_api_port=0",
            "--port=0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if (url := _wait_until_listening(server)) is None:
            return 1
        print(f"Serving examples/mnist/saved at {url}", flush=True)
        ask = [sys.executable, str(_HERE / "client.py"), "--url", f"{url}/v1/models/MLP:predict"]
        code = subprocess.run(ask, check=False).returncode
    finally:
        server.terminate()
        server.wait()
    print(_CURL)
    return code


def _wait_until_listening(server: subprocess.Popen[str]) -> str | None:
    """The server's address; None, with its last words printed, when it ends instead."""
    assert server.stderr
    said = []
    for line in server.stderr:
        if match := _LISTENING.search(line):
            return match[1]
        said.append(line)
    sys.stderr.writelines(said)
    return None


if __name__ == "__main__":
    sys.exit(main())
