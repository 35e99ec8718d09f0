"""The server's image in place of tensorflow/serving: the same command lines, the same answers."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from operator import attrgetter
from pathlib import Path

import grpc
import httpx
import pytest

from lambda_serving import protos
from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.config import proto_text
from lambda_serving.model_spec import ModelSpec
from lambda_serving.servables import signature_defs
from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Signature
from support import containers, docker_engine, server_container
from support.conformance import Case, check, load_cases
from support.docker_engine import docker as run_docker
from support.load import steady
from support.rpc_client import call, free_port, message
from support.rpc_conformance import predictions, replay
from support.server_container import Container
from support.server_process import MNIST, until

_STUBS_CLIENT = Path(__file__).parents[1] / "support/stubs_client.py"
_DOCKER = shutil.which("docker") or "docker"
_LABELS = {"two_versions": {"stable": 1, "canary": 2}}
_NOT_SERVED = {"warmup_fails"}
_OBJECT_GRAPH_ONLY = {
    "keras3_saved",
    "keras3_sequential_fixed_batch",
}  # these want Python TensorFlow
_DIGITS = "predicted [7 2 1 0 4 1 4 9 6 9]\ntrue      [7 2 1 0 4 1 4 9 5 9]\n"
_MNIST = [f"--volume={MNIST}/saved:/models/mnist:ro", "--env=MODEL_NAME=mnist"]
Serve = Callable[[tuple[str, ...]], Container]


@pytest.fixture(scope="module")
def image(docker: None) -> str:  # noqa: ARG001 the engine must answer
    return docker_engine.build("lambda-serving-server", "images/Dockerfile", "--target=server")


@pytest.fixture(scope="module")
def folder(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models of the conformance table and the handbook's, and a config; anyone may read it."""
    folder = tmp_path_factory.mktemp("models")
    for model in sorted(models_dir.iterdir()):
        if model.name in _OBJECT_GRAPH_ONLY:
            [version] = model.iterdir()
            _compile(version, folder / model.name / version.name)
        elif model.name not in _NOT_SERVED:
            shutil.copytree(model, folder / model.name)
    shutil.copytree(MNIST / "saved", folder / "MLP")
    _compile(MNIST / "saved_with_signature/1", folder / "custom/1")
    config = protos.message("tensorflow.serving.ModelServerConfig")()
    for model in sorted(folder.iterdir()):
        added = config.model_config_list.config.add(
            name=model.name, base_path=f"/models/{model.name}", model_platform="tensorflow"
        )
        added.model_version_policy.all.SetInParent()
        added.version_labels.update(_LABELS.get(model.name, {}))
    (folder / "models.config").write_text(proto_text.written(config))
    return _readable(folder)


@pytest.fixture(scope="module")
def serve(image: str, folder: Path) -> Iterator[Serve]:
    """The container of all models, with flags: not root, nothing writable."""
    options = ["--read-only", f"--volume={folder}:/models:ro"]
    with ExitStack() as stack:

        @cache
        def start(flags: tuple[str, ...]) -> Container:
            config = "--model_config_file=/models/models.config"
            return stack.enter_context(server_container.running(image, options, config, *flags))

        yield start


@pytest.fixture(scope="module")
def container(serve: Serve) -> Container:
    return serve(())


def _compile(version: Path, target: Path) -> None:
    target.parent.mkdir()
    compile_saved_model(version, target)


def _readable(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def _refusal(image: str, *arguments: str) -> str:
    ended = subprocess.run(
        [_DOCKER, "run", "--rm", *arguments[:-1], image, arguments[-1]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in {1, 2}
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("case", load_cases(), ids=attrgetter("name"))
def test_answers_as_the_table_says(case: Case, serve: Serve) -> None:
    url = httpx.URL(f"{serve(case.flags).url}{case.path}")
    assert url.raw_path == case.path.encode()
    response = httpx.request(case.method, url, content=case.body, headers=dict(case.headers))
    check(case, response.status_code, response.headers, response.content)


@pytest.fixture(scope="module")
def channel(container: Container) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(container.target) as channel:
        yield channel


@pytest.mark.parametrize("case", predictions(load_cases()), ids=attrgetter("name"))
def test_grpc_answers_as_the_table_says(case: Case, channel: grpc.Channel) -> None:
    def signature_of(spec: ModelSpec, name: str) -> Signature:
        asked = {"name": spec.name}
        if spec.version is not None:
            asked["version"] = str(spec.version)
        if spec.label is not None:
            asked["versionLabel"] = spec.label
        fields = {"modelSpec": asked, "metadataField": ["signature_def"]}
        answer = call(channel, "GetModelMetadata", message("GetModelMetadataRequest", fields))
        found = protos.message("tensorflow.serving.SignatureDefMap")()
        answer.metadata["signature_def"].Unpack(found)
        definitions = {
            each: definition.SerializeToString() for each, definition in found.signature_def.items()
        }
        return signature_defs.signatures(definitions)[name or DEFAULT_SIGNATURE]

    replay(case, channel, signature_of)


def test_tensorflow_servings_own_stubs_are_answered(container: Container) -> None:
    subprocess.run([sys.executable, _STUBS_CLIENT, container.target], check=True)


@pytest.mark.parametrize(
    ("model", "arguments"), [("MLP", []), ("custom", ["--signature_name", "call"])]
)
def test_handbooks_clients_read_digits(
    container: Container, node_client: Path, model: str, arguments: list[str]
) -> None:
    url = f"{container.url}/v1/models/{model}:predict"
    python = [sys.executable, str(MNIST / "client.py"), "--url", url, *arguments]
    node = ["node", str(node_client), str(MNIST / "digit.png"), "--url", url, *arguments]
    curl = ["curl", "-sf", "-d", f"@{MNIST}/request.json", f"{container.url}/v1/models/MLP:predict"]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (python, node, curl)
    ]
    assert said[0] == _DIGITS
    assert re.findall(r"\b(\d)\b.*\b0\.\d+", said[1])[-1] == "5"
    assert said[2].startswith('{"predictions":[[')


def test_is_not_root_and_says_where_it_comes_from(image: str, container: Container) -> None:
    config = containers.config(image)
    assert config["Labels"]["org.opencontainers.image.version"]
    assert "org.opencontainers.image.source" in config["Labels"]
    assert run_docker("exec", container.id, "id", "-u").strip() == "65532"


def test_is_healthy_once_it_is_ready(container: Container) -> None:
    until(lambda: server_container.state(container.id)["Health"]["Status"] == "healthy")


def test_holds_two_libraries_of_tensorflow_and_no_python(image: str) -> None:
    command = ["--rm", "--user=0", "--entrypoint=find", image, "/", "-path", "*/tensorflow/*"]
    found = run_docker("run", *command, "-printf", "%f\n").split()
    assert set(found) == {
        "THIRD_PARTY_NOTICES.txt",
        "libtensorflow_cc.so.2",
        "libtensorflow_framework.so.2",
    }


def test_command_of_tensorflow_serving_is_on_the_path(image: str) -> None:
    said = run_docker("run", "--rm", "--entrypoint=tensorflow_model_server", image, "--version")
    assert re.fullmatch(r"lambda-serving: \S+\nTensorFlow Library: 2\.\S+\n", said)


def test_dropped_version_is_served_within_bounded_memory(image: str, tmp_path: Path) -> None:
    shutil.copytree(MNIST / "saved/1", tmp_path / "1")
    _readable(tmp_path)
    options = ["--memory=512m", f"--volume={tmp_path}:/models/mnist:ro", "--env=MODEL_NAME=mnist"]
    with server_container.running(image, options, "--enable_batching") as container:
        model = f"{container.url}/v1/models/mnist"
        assert httpx.get(f"{model}/versions/1").status_code == 200
        shutil.copytree(tmp_path / "1", tmp_path / "aside")
        (tmp_path / "aside").rename(tmp_path / "2")
        until(lambda: httpx.get(f"{model}/versions/2").status_code == 200)
        until(lambda: httpx.get(model).json()["model_version_status"][0]["state"] == "AVAILABLE")
        answer = httpx.post(f"{model}:predict", content=(MNIST / "request.json").read_bytes())
        assert answer.status_code == 200


def test_docker_stop_drains_and_ends_with_0(image: str) -> None:
    port = free_port()
    host = [*_MNIST, "--network=host"]  # so that later connections are refused
    arguments = [f"--rest_api_port={port}", f"--port={free_port()}"]
    id_ = run_docker("run", "--detach", *host, image, *arguments).strip()
    try:
        until(lambda: "REST API at" in _log(id_))
        body = (MNIST / "request.json").read_bytes()
        with steady(port, "/v1/models/mnist:predict", body, rate=200) as load:
            until(lambda: len(load.answers) > 100)
            run_docker("stop", "--time=30", id_)
        lost = [each for each in load.failures() if "ConnectionRefusedError" not in each.body]
        assert lost == []
        assert server_container.state(id_)["ExitCode"] == 0
    finally:
        run_docker("rm", "--force", id_)


def test_stop_in_the_first_moment_is_heard(image: str) -> None:
    """Process 1 catches SIGTERM before it imports: without a handler the kernel would drop it."""
    caught = "^SigCgt:.*[4-7c-f]...$"  # bit 14 of the mask is SIGTERM
    stop = f"until grep -q '{caught}' /proc/1/status; do :; done; kill -TERM 1"
    script = f"({stop}) & exec tf_serving_entrypoint.sh"
    id_ = run_docker("run", "--detach", *_MNIST, "--entrypoint=sh", image, "-c", script).strip()
    try:
        until(lambda: server_container.state(id_)["Status"] == "exited")
        assert server_container.state(id_)["ExitCode"] in {143, 0}  # 0 once the command runs
    finally:
        run_docker("rm", "--force", id_)


def _log(container: str) -> str:
    return subprocess.run(
        [_DOCKER, "logs", container], capture_output=True, text=True, check=True
    ).stderr


def test_misspelt_flag_and_missing_folder_are_reported(image: str) -> None:
    assert "Did you mean one of: '--model_base_path'" in _refusal(image, "--model_base_pth=/m")
    assert "base path /models/nowhere of model nowhere" in _refusal(
        image, "--env=MODEL_NAME=nowhere", "--enable_batching"
    )
