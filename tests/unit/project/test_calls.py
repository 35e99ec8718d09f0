import json
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_serving.project.calls import call, golden_file

_URL = "https://api.execute-api.eu-west-1.amazonaws.com/v1/models/MLP:predict"
_REQUESTS = {"short": {"instances": [1.0]}, "long": {"instances": [0.5] * 784}}


def _golden(folder: Path, request: object) -> Path:
    path = folder / "2/assets.extra/golden.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"request": request, "response": {}}) + "\n{}\n")
    return path


@pytest.mark.parametrize("size", ["short", "long"])
@pytest.mark.parametrize("access", ["IAM", "JWT", "OPEN"])
def test_line_sends_the_golden_request_as_the_access_needs_it(
    tmp_path: Path, size: str, access: str
) -> None:
    """Programs that print what they were given stand for curl and our own command."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("curl", "lambda-serving"):
        program = programs / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n[ -t 0 ] || cat\n')
        program.chmod(0o755)
    golden = _golden(folder, _REQUESTS[size])
    assert golden_file(folder) == golden
    line = call("MLP", _URL, access, golden, "--profile work" if access == "IAM" else "")
    path = f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin"
    said = subprocess.run(
        ["/bin/sh", "-ec", line],
        env={"PATH": path, "TOKEN": "secret"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    program_name, *arguments = said.splitlines()
    assert Path(program_name).name == ("lambda-serving" if access == "IAM" else "curl")
    requests = [json.loads(each) for each in arguments if each.startswith("{")]
    assert requests == [_REQUESTS[size]]
    assert ("Authorization: Bearer secret" in arguments) == (access == "JWT")
    if access == "IAM":
        assert arguments[:2] == ["predict", "MLP"]
        base = _URL.partition("/v1")[0]
        assert {"--url", base, "--profile", "work"} <= set(arguments)
    else:
        assert _URL in arguments


@pytest.mark.parametrize("content", ["", "[]\n", "{}\n", "not JSON\n", "\xff\n", "[" * 100_000])
def test_file_without_a_request_is_not_used(tmp_path: Path, content: str) -> None:
    older = _golden(tmp_path, _REQUESTS["short"])
    newer = tmp_path / "10/assets.extra/golden.jsonl"
    newer.parent.mkdir(parents=True)
    newer.write_bytes(content.encode("latin-1"))
    assert golden_file(tmp_path) == older
    assert golden_file(tmp_path / "nowhere") is None


@pytest.mark.parametrize("access", ["IAM", "JWT", "OPEN"])
def test_without_golden_pairs_the_request_comes_from_a_file(access: str) -> None:
    assert "@request.json" in call("MLP", _URL, access, None)
