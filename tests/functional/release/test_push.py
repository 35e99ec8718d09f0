"""`lambda-serving push` of real models, as a user runs it. S3 is moto's server."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import gettempdir

import boto3
import numpy as np
import pytest

from lambda_serving.cli.push import push as push_command
from lambda_serving.errors import InvalidArgument, Unimplemented
from lambda_serving.model_spec import ServableId
from lambda_serving.release.push import push
from lambda_serving.servables import saved_model
from lambda_serving.servables.warmup import WARMUP_FILE
from lambda_serving.store import LocalStore
from lambda_serving.store.completeness import Incomplete
from lambda_serving.store.local_push_target import LocalVersion
from lambda_serving.store.manifest import MANIFEST, Manifest
from lambda_serving.store.push_target import open_version
from support import commands
from support.server_process import COMMAND, MNIST
from support.terminal import on_a_terminal

_SAVED = MNIST / "saved/1"
_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> dict[str, str]:
    """The environment of a user who may write to s3://bucket."""
    environment = {**_KEYS, "AWS_ENDPOINT_URL": endpoint}
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - moto takes any
    )
    client.create_bucket(Bucket="bucket")
    client.close()
    return environment


def _environment(environment: dict[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), "/nowhere")
    return {
        **ours,
        **nowhere,
        **environment,
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": gettempdir(),
    }


def _push(
    source: Path, destination: object, environment: dict[str, str] | None = None, *flags: str
) -> tuple[int, str, str]:
    """In this process."""
    settings = _environment(environment or {})
    removed = dict.fromkeys(os.environ.keys() - settings.keys())
    arguments = [str(source), str(destination), *flags]
    return commands.run(push_command, arguments, {**removed, **settings})


def test_push_to_a_bucket_is_once_and_for_all(bucket: dict[str, str]) -> None:
    destination = "s3://bucket/models/MLP/1"
    said = [
        _push(source, destination, bucket, "--no-check")
        for source in (_SAVED, _SAVED, MNIST / "saved_with_signature/1")
    ]
    assert [code for code, _, _ in said] == [0, 0, 1]
    assert said[0][1] == f"{destination}: pushed 4 files, 0.6 MiB\n"
    assert said[1][1:] == (f"{destination} already has these 4 files. Nothing to do\n", "")
    assert said[2][2] == (
        f"Error: {destination} holds other files than this SavedModel: fingerprint.pb,"
        " saved_model.pb, variables/variables.data-00000-of-00001, variables/variables.index"
        " differ. A version never changes: push under a new version number\n"
    )


def test_push_to_a_folder_makes_a_version_that_predicts(tmp_path: Path) -> None:
    code, said, _ = _push(_SAVED, tmp_path / "models/MLP/3/")
    assert (code, said) == (0, f"{tmp_path}/models/MLP/3: pushed 4 files, 0.6 MiB\n")
    store = LocalStore({"MLP": f"{tmp_path}/models/MLP"})
    assert store.versions("MLP") == [3]
    digit = np.array(json.loads((MNIST / "request.json").read_bytes())["instances"], np.float32)
    with saved_model.load(store.fetch(ServableId("MLP", 3))) as servable:
        [name] = servable.signature("").inputs
        [scores] = servable.run("", {name: digit}).values()
    assert scores.argmax() == 7


def test_problems_are_warnings_with_their_fix(
    models_dir: Path, runtime_dir: Path, tmp_path: Path
) -> None:
    source, cache = runtime_dir / "keras3_sequential_fixed_batch/1", str(models_dir.parent)
    code, _, said = _push(source, tmp_path / "1", None, "--cache_dir", cache)
    assert code == 0
    assert "Warning: input " in said
    assert "takes only 5 rows at once" in said
    assert "model.export(path) keeps it free.\n" in said


@pytest.mark.parametrize("by_litert", [False, True])
def test_model_that_does_not_warm_up_is_not_pushed(
    models_dir: Path, litert_dir: Path, tmp_path: Path, *, by_litert: bool
) -> None:
    source, what = models_dir / "warmup_fails/1", "the SavedModel"
    if by_litert:
        source, what = tmp_path / "saved", "model.tflite"
        shutil.copytree(litert_dir / "dense/1", source)
        shutil.copy(models_dir / "warmup_fails/1" / WARMUP_FILE, source / WARMUP_FILE)
    code, _, said = _push(source, tmp_path / "models/1")
    assert code == 1
    assert f"Error: Could not load {what} in {source}: Warm-up record 0 of " in said
    assert not (tmp_path / "models").exists()


def test_model_of_litert_is_pushed_with_its_mark_or_when_it_is_preferred(
    litert_dir: Path, tflite_dir: Path, tmp_path: Path
) -> None:
    marked = ["assets.extra/compiled.json", "model.tflite"]
    assert _push(litert_dir / "two_versions/1", tmp_path / "m/1")[0] == 0
    code, _, said = _push(tflite_dir / "two_versions/2", tmp_path / "m/2")
    assert (code, "--prefer_tflite_model" in said) == (1, True)
    destination = tmp_path / "m/2"
    source = tflite_dir / "two_versions/2"
    code, said, _ = _push(source, destination, None, "--prefer_tflite_model")
    assert (code, said) == (0, f"{destination}: pushed 1 files, 0.0 MiB\n")
    files = [
        sorted(Manifest.of_json((tmp_path / f"m/{version}/{MANIFEST}").read_bytes(), "it").files)
        for version in (1, 2)
    ]
    assert files == [marked, ["model.tflite"]]
    store = LocalStore({"m": f"{tmp_path}/m"})
    assert store.versions("m") == [1, 2]
    with saved_model.load(store.fetch(ServableId("m", 1))) as servable:
        assert servable.run("", {"x": np.array([2], np.float32)})["y"].tolist() == [3]
    (tmp_path / "m/1/model.tflite").unlink()
    with pytest.raises(Incomplete, match=r"model\.tflite is missing"):
        store.fetch(ServableId("m", 1))


def test_model_that_does_not_load_is_not_pushed(tmp_path: Path) -> None:
    source = tmp_path / "saved"
    source.mkdir()
    (source / "saved_model.pb").write_bytes(b"no")
    code, _, said = _push(source, tmp_path / "models/1")
    assert code == 1
    assert "Error: Could not load the SavedModel in " in said
    assert list(tmp_path.iterdir()) == [source]


def _golden(models: Path, folder: Path, model: str, *pairs: tuple[str, str]) -> Path:
    """A copy of a model that carries these requests and responses."""
    source = folder / "saved"
    shutil.copytree(models / model, source)
    (source / "assets.extra").mkdir(exist_ok=True)
    lines = (f'{{"request": {asked}, "response": {answered}}}\n' for asked, answered in pairs)
    (source / "assets.extra/golden.jsonl").write_text("".join(lines))
    return source


_ROWS = ('{"instances": [1.0, 2.0, 5.0]}', '{"predictions": [2.5, 3, 4.5004]}')
_NAMED = ('{"signature_name": "serving_default", "inputs": {"x": [NaN]}}', '{"outputs": [NaN]}')
_REFUSAL = 'JSON Value: \\"x\\" Type: String is not of expected type: float'
_REFUSED = ('{"inputs": ["x"]}', f'{{"error": "{_REFUSAL}"}}')


def test_golden_pairs_that_are_answered_are_reported(runtime_dir: Path, tmp_path: Path) -> None:
    source = _golden(runtime_dir, tmp_path, "half_plus_two/123", _ROWS, _NAMED, _REFUSED)
    code, told, _ = _push(source, tmp_path / "models/1")
    assert code == 0
    assert told.endswith(" MiB. Golden pairs checked: 3\n")
    assert (tmp_path / "models/1/assets.extra/golden.jsonl").exists()


@pytest.mark.parametrize(
    ("asked", "answered", "reason"),
    [
        ('{"instances": [1.0]}', '{"predictions": [2.6]}', "predictions[0] is 2.5, expected 2.6"),
        ('{"inputs": [1, 9]}', '{"outputs": [2.5]}', "outputs has the length 2, expected 1"),
        (
            _REFUSED[0],
            '{"outputs": [1.0]}',
            f'outputs is missing; error, not expected, is "{_REFUSAL}"',
        ),
    ],
)
def test_model_with_other_answers_is_not_pushed(
    runtime_dir: Path, tmp_path: Path, asked: str, answered: str, reason: str
) -> None:
    source = _golden(runtime_dir, tmp_path, "half_plus_two/123", _ROWS, (asked, answered))
    code, told, said = _push(source, tmp_path / "models/1")
    assert (code, told) == (1, "")
    assert said.splitlines()[-1] == (
        f"Error: The model does not match its golden answers in {source}/assets.extra/golden.jsonl,"
        f" line 2: {reason}. Fix the model or the file"
    )
    assert list(tmp_path.iterdir()) == [source]


def test_model_with_invalid_golden_pairs_is_not_pushed(models_dir: Path, tmp_path: Path) -> None:
    source = _golden(models_dir, tmp_path, "half_plus_two/123", ("[1.0]", "[2.5]"))
    code, _, said = _push(source, tmp_path / "models/1")
    assert code == 1
    assert "/assets.extra/golden.jsonl, line 1: request must be an object" in said
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        (MNIST / "saved", "/nowhere/1", "is a base path with versions 1. Push one of them, "),
        (MNIST, "/nowhere/1", "It holds: README.md"),
        (MNIST / "no", "/nowhere/1", "examples/mnist/no does not exist"),
        (_SAVED, "/nowhere/v1", "as in s3://bucket/models/MLP/2, and that of /nowhere/v1 is not"),
        (
            _SAVED,
            "s3://nowhere/m/1",
            "Could not read s3://nowhere: the bucket does not exist. Correct its",
        ),
        (_SAVED, "s3:///1", "s3:///1 names no bucket: s3://BUCKET/PREFIX"),
        (_SAVED, "/dev/null/1", "Could not write /dev/null/1: File exists (/dev/null)"),
        (_SAVED, "/proc/nowhere/1", "Could not write /proc/nowhere/1: "),
    ],
)
def test_mistake_of_a_user_is_one_sentence(
    bucket: dict[str, str], source: Path, destination: str, reason: str
) -> None:
    code, told, said = _push(source, destination, bucket)
    assert (code, told) == (1, "")
    assert said.splitlines()[-1].startswith("Error: ")  # TensorFlow greets some processors first
    assert reason in said.splitlines()[-1]


def test_version_that_no_stack_serves_is_not_pushed(bucket: dict[str, str]) -> None:
    code, told, said = _push(_SAVED, "s3://bucket/models/MLP/7", bucket)
    assert (code, told) == (1, "")
    assert said.splitlines()[-1].startswith("Error: No stack serves s3://bucket/models/MLP, as far")
    assert "or push with --no-check" in said


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--wait"], "--stack and --wait need a DESTINATION in s3://"),
        (["--stack=S"], "--stack and --wait need a DESTINATION in s3://"),
        (["--stack=S", "--no-check"], "Use either --no-check, or --stack and --wait"),
        (["--wait", "--no-check"], "Use either --no-check, or --stack and --wait"),
        (["--timeout=-1"], "-1 is not in the range"),
    ],
)
def test_options_that_exclude_each_other_are_refused(flags: list[str], reason: str) -> None:
    code, _, said = _push(_SAVED, "/nowhere/1", None, *flags)
    assert (code, reason in said) == (2, True)


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_signatures_that_differ_from_the_largest_version_need_a_flag(
    bucket: dict[str, str], models_dir: Path, tmp_path: Path, place: str
) -> None:
    base_path = str(tmp_path) if place == "folder" else "s3://bucket/models/changing"
    flags = [] if place == "folder" else ["--no-check"]
    half, mnist, allowing = models_dir / "two_versions/1", _SAVED, "--allow-signature-change"
    assert _push(half, f"{base_path}/1", bucket, *flags)[0] == 0
    assert _push(half, f"{base_path}/3", bucket, *flags)[0] == 0
    code, told, said = _push(mnist, f"{base_path}/2", bucket, *flags)
    assert (code, told) == (1, "")
    head, *lines, last = said[said.index("Error: ") :].splitlines()
    assert head == "Error: The signatures are not those of version 3, the largest:"
    start = lines.index("  signature serving_default")
    assert lines[start + 1 : start + 5] == [
        "  + input keras_tensor: float [n, 28, 28, 1]",
        "  - input x: float [n]",
        "  + output output_0: float [n, 10]",
        "  - output y: float [n]",
    ]
    assert last == "If callers are ready for that, push with --allow-signature-change"
    code, told, said = _push(mnist, f"{base_path}/2", bucket, *flags, allowing)
    assert (code, "pushed 4 files" in told) == (0, True)
    assert "+ input keras_tensor: float [n, 28, 28, 1]" in said


def test_version_that_cannot_be_read_is_compared_with_nothing_only_if_allowed(
    tmp_path: Path,
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_bytes(b"no")
    code, _, said = _push(_SAVED, tmp_path / "2")
    assert (code, "The signatures of version 1, the largest, cannot be compared: " in said) == (
        1,
        True,
    )
    assert _push(_SAVED, tmp_path / "2", None, "--allow-signature-change")[0] == 0
    (tmp_path / "3").mkdir()  # which no server would load
    assert _push(_SAVED, tmp_path / "4") == (0, f"{tmp_path}/4: pushed 4 files, 0.6 MiB\n", "")


def test_no_credentials_are_reported() -> None:
    code, _, said = _push(_SAVED, "s3://bucket/m/1")
    assert (code, said.count("\n")) == (1, 1)
    assert "Error: Could not read s3://bucket: no AWS credentials (" in said


@pytest.mark.parametrize("last", ["v1", "01", "1.0", "-1", "+1", " 1", "", str(2**63)])
def test_last_part_must_be_a_version_number(last: str) -> None:
    with pytest.raises(InvalidArgument, match="The last part of DESTINATION must be a version nu"):
        open_version(f"models/MLP/{last}")


@pytest.mark.parametrize("destination", ["gs://bucket/1", "S3://bucket/1", "s3:/bucket/1"])
def test_another_scheme_is_refused(destination: str) -> None:
    with pytest.raises(Unimplemented, match="^DESTINATION .* Supported are folders and s3://BUCKE"):
        open_version(destination)


def test_progress_goes_through_stages_to_all_bytes(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    push(_SAVED, LocalVersion(tmp_path / "1"), progress=lambda *stage: told.append(stage))
    size = sum(path.stat().st_size for path in _SAVED.rglob("*") if path.is_file())
    steps = ["reading", "loading", "checking golden answers", "comparing signatures"]
    assert told[:4] == [(step, 0, 0) for step in steps]
    assert [stage for stage, _, _ in told[4:]] == ["copying"] * len(told[4:])
    assert told[-1] == ("copying", size, size)


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    environment = _environment({"TERM": "xterm", "COLUMNS": "200"})
    said = on_a_terminal([COMMAND, "push", _SAVED, tmp_path / "1"], environment)
    assert b"loading" in said
    assert b"pushed 4 files" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_push_leaves_no_manifest(tmp_path: Path, number: int, code: int) -> None:
    source, target = tmp_path / "1", tmp_path / "models/2"
    shutil.copytree(_SAVED, source)
    with (source / "large").open("wb") as large:
        large.truncate(2**29)  # a hole: quick to make, a second to copy
    with subprocess.Popen(
        [COMMAND, "push", source, target],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=_environment({}),
    ) as process:
        while not (target / "push.json").exists():
            assert process.poll() is None
        process.send_signal(number)
        said, _ = process.communicate()
    assert (process.returncode, said) == (code, b"")
    assert not (target / "manifest.json").exists()
    assert list(target.parent.iterdir()) == [target]
