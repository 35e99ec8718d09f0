"""`lambda-serving batch` on folders and on buckets of moto's server."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import google_crc32c
import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.cli.batch import batch
from lambda_serving.servables.litert.compiled_folder import mark
from support import commands
from support.server_process import COMMAND, MNIST
from support.terminal import on_a_terminal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MLP = MNIST / "saved"
_TEMPLATE = Path(__file__).parents[3] / "infra/batch.yaml"
_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_Said = tuple[int, str, str]


class _Place:
    """The place of a test's files: a folder on this machine, or a prefix in a bucket."""

    def __init__(self, address: str, environment: dict[str, str]) -> None:
        self.address, self.environment = address, environment

    def write(self, name: str, content: bytes) -> None:
        path = Path(self.address, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def files(self, folder: str) -> dict[str, bytes]:
        below = Path(self.address, folder)
        return {
            path.relative_to(below).as_posix(): path.read_bytes()
            for path in below.glob("**/[!.]*")  # not what a killed job leaves
            if path.is_file()
        }

    def has(self, name: str) -> bool:
        return Path(self.address, name).exists()

    def run(self, *arguments: object, **environment: str) -> _Said:
        """Runs the command in this process."""
        settings = {**self.environment, **environment}
        removed = dict.fromkeys(os.environ.keys() - _environment(settings).keys())
        said = commands.run(batch, [*map(str, arguments)], {**removed, **_environment(settings)})
        return _with_errors(*said)

    def run_apart(self, *arguments: object) -> _Said:
        """Runs the command in a new process."""
        ended = subprocess.run(
            [COMMAND, "batch", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=_environment(self.environment),
        )
        return _with_errors(ended.returncode, ended.stdout, ended.stderr)

    def predict(self, model: Path, names: str, *flags: object, **environment: str) -> _Said:
        """From the folder `in` to the folder `out`."""
        where = ("--input", f"{self.address}/in/{names}", "--output", f"{self.address}/out")
        return self.run(model, *where, *flags, **environment)


class _Bucket(_Place):
    def __init__(self, client: "S3Client", environment: dict[str, str]) -> None:
        self._client, self._name = client, f"bucket-{uuid4()}"
        client.create_bucket(Bucket=self._name)
        super().__init__(f"s3://{self._name}/job", environment)

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=f"job/{name}", Body=content)

    def has(self, name: str) -> bool:
        listed = self._client.list_objects_v2(Bucket=self._name, Prefix=f"job/{name}")
        return listed["KeyCount"] > 0

    def files(self, folder: str) -> dict[str, bytes]:
        prefix = f"job/{folder}/"
        listed = self._client.list_objects_v2(Bucket=self._name, Prefix=prefix)
        return {
            entry["Key"].removeprefix(prefix): self._client.get_object(
                Bucket=self._name, Key=entry["Key"]
            )["Body"].read()
            for entry in listed.get("Contents", [])
        }


def _with_errors(code: int, said: str, errors: str) -> _Said:
    """The result with only the lines of errors, because TensorFlow may print others."""
    lines = [line for line in errors.splitlines() if line.startswith("Error")]
    return code, said, "\n".join(lines)


def _environment(environment: dict[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), "/nowhere")
    return {
        **ours,
        **nowhere,
        **environment,
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "200",
        "XDG_CACHE_HOME": gettempdir(),
    }


@pytest.fixture
def folder(tmp_path: Path) -> _Place:
    return _Place(str(tmp_path), {})


@pytest.fixture(params=["folder", "bucket"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, client: "S3Client", endpoint: str
) -> _Place:
    if request.param == "folder":
        return _Place(str(tmp_path), {})
    return _Bucket(client, {**_KEYS, "AWS_ENDPOINT_URL": endpoint})


def _lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def _array_file(path: Path, **arrays: Any) -> bytes:
    np.savez(path, **arrays)
    return path.read_bytes()


def _tfrecord(*payloads: bytes) -> bytes:
    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    written = b""
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        written += length + masked(length) + payload + masked(payload)
    return written


def _example(x: float) -> bytes:
    example = protos.message("tensorflow.Example")()
    example.features.feature["x"].float_list.value.append(x)
    return bytes(example.SerializeToString())


def test_lines_become_lines_in_their_order(place: _Place, runtime_dir: Path) -> None:
    place.write("in/a.jsonl", _lines(*range(100)))
    place.write("in/sub/b.jsonl", _lines({"x": 1.0}, {"x": 2.0}))
    place.write("in/c.txt", b"not asked for")
    code, said, _ = place.predict(runtime_dir / "half_plus_two", "**/*.jsonl", "--batch_size=7")
    made = place.files("out")
    answers = [json.loads(line) for line in made["a.jsonl.jsonl"].splitlines()]
    assert answers == [x / 2 + 2 for x in range(100)]
    assert made["sub/b.jsonl.jsonl"] == b"2.5\n3.0\n"
    assert sorted(made) == [
        "a.jsonl.done.json",
        "a.jsonl.jsonl",
        "sub/b.jsonl.done.json",
        "sub/b.jsonl.jsonl",
    ]
    assert code == 0
    assert said.splitlines()[:2] == [
        f"a.jsonl: 100 rows -> {place.address}/out/a.jsonl.jsonl",
        f"sub/b.jsonl: 2 rows -> {place.address}/out/sub/b.jsonl.jsonl",
    ]
    assert said.splitlines()[2].startswith("2 files, 102 rows in ")


def test_rows_of_differing_shapes_are_joined_as_they_can(folder: _Place, runtime_dir: Path) -> None:
    folder.write("in/a.jsonl", _lines([1.0], [1.0, 2.0], [3.0], [[4.0]]))
    assert folder.predict(runtime_dir / "identity_float32", "a.jsonl")[0] == 0
    assert folder.files("out")["a.jsonl.jsonl"] == b"[1.0]\n[1.0,2.0]\n[3.0]\n[[4.0]]\n"


def test_rows_of_several_inputs_are_objects(folder: _Place, runtime_dir: Path) -> None:
    row = {"int_tensor": 7, "str_tensor": {"b64": "/w=="}, "float_tensor": [0.5, 2.0]}
    folder.write("in/a.jsonl", _lines(row, row | {"int_tensor": 8}))
    assert folder.predict(runtime_dir / "multi", "*")[0] == 0
    first, second = folder.files("out")["a.jsonl.jsonl"].splitlines()
    assert b'"str_out_bytes":{"b64":"/w=="}' in first
    assert json.loads(second.replace(b"\xff", b"?"))["int_out"] == 8


def test_examples_of_tfrecord_files_are_answered(place: _Place, models_dir: Path) -> None:
    place.write("in/a.tfrecord", _tfrecord(*map(_example, (1.0, 2.0, 3.0)), b"\xff"))
    flags = ("--signature_name=regress_x_to_y", "--batch_size=3")
    code, _, _ = place.predict(models_dir / "half_plus_two", "a.tfrecord", *flags)
    made = place.files("out")
    lines = made["a.tfrecord.jsonl"].splitlines()
    assert (code, lines[:3]) == (4, [b"[2.5]", b"[3.0]", b"[3.5]"])
    assert b"Could not parse example input" in lines[3]
    report = json.loads(made["a.tfrecord.errors.jsonl"])
    assert (report["row"], report["text"]) == (4, "\\xff")


def test_arrays_become_arrays(place: _Place, runtime_dir: Path, tmp_path: Path) -> None:
    rows = {
        "int_tensor": np.arange(10, dtype=np.int32),
        "str_tensor": np.array(["a", "\u00e9\u00e9", ""] + 7 * ["z"]),
        "float_tensor": np.arange(20.0).reshape(10, 2),  # doubles become what the model takes
    }
    place.write("in/a.npz", _array_file(tmp_path / "a.npz", **rows))
    assert place.predict(runtime_dir / "multi", "*.npz", "--batch_size=3")[0] == 0
    (tmp_path / "b.npz").write_bytes(place.files("out")["a.npz.npz"])
    with np.load(tmp_path / "b.npz") as made:
        assert made["int_out"].tolist() == list(range(10))
        assert made["str_out"].tolist() == [b"a", "\u00e9\u00e9".encode(), b"", *7 * [b"z"]]
        assert made["float_out"].dtype == np.float32
        assert (made["float_out"] == rows["float_tensor"]).all()


def test_bad_rows_of_arrays_are_not_numbers(folder: _Place, models_dir: Path) -> None:
    content = _array_file(Path(folder.address, "a.npz"), x=np.array([-1, -2, 3, -4, 5], np.float32))
    folder.write("in/a.npz", content)
    assert folder.predict(models_dir / "positive", "*.npz", "--batch_size=2")[0] == 4
    with np.load(Path(folder.address, "out/a.npz.npz")) as made:
        assert np.array_equal(made["y"], [np.nan, np.nan, 4, np.nan, 6], equal_nan=True)
    report = folder.files("out")["a.npz.errors.jsonl"].splitlines()
    assert [json.loads(line)["row"] for line in report] == [1, 2, 4]


def test_bad_rows_have_their_error_where_others_have_a_prediction(
    place: _Place, models_dir: Path
) -> None:
    place.write("in/a.jsonl", b'1.0\n{\n"x"\n\n-5.0\n[1.0]\n1.0, 2.0\n3.0')
    code, said, errors = place.predict(models_dir / "positive", "a.jsonl")
    made = place.files("out")
    lines = [json.loads(line) for line in made["a.jsonl.jsonl"].splitlines()]
    assert (code, errors) == (4, "")
    assert said.startswith(f"a.jsonl: 8 rows, 6 of them bad -> {place.address}/out/a.jsonl.jsonl\n")
    assert [lines[0], lines[7]] == [2.0, 4.0]
    assert [list(line) for line in lines[1:7]] == 6 * [["error"]]
    reports = [json.loads(line) for line in made["a.jsonl.errors.jsonl"].splitlines()]
    assert [report["row"] for report in reports] == [2, 3, 4, 5, 6, 7]
    assert [report["text"] for report in reports][:4] == ["{", '"x"', "", "-5.0"]
    assert "positive numbers only" in reports[3]["error"]
    assert reports[5]["error"] == "Expecting one value but got 2"


def test_litert_has_its_errors_where_others_have_a_prediction(
    folder: _Place, litert_dir: Path
) -> None:
    """A row that the runtime refuses, and one that does not fit the signature."""
    rows = [{"x": [n, 0, 0, 0], "i": i} for n, i in ((1, 0), (2, 9), (3, 0))]
    folder.write("in/a.jsonl", _lines(*rows, {"x": [4], "i": 0}))
    code, _, errors = folder.predict(litert_dir / "gather", "*", "--batch_size=2")
    lines = [json.loads(line) for line in folder.files("out")["a.jsonl.jsonl"].splitlines()]
    assert (code, errors) == (4, "")
    assert [lines[0], lines[2]] == [[1, 0, 0, 0], [3, 0, 0, 0]]
    assert "gather index out of bounds" in lines[1]["error"]
    assert "'x' has the shape [1, 1], which does not fit [any, 4]" in lines[3]["error"]


def test_file_of_litert_is_another_model_when_it_is_preferred(
    folder: _Place, models_dir: Path, tflite_dir: Path
) -> None:
    """What TensorFlow has done is done again."""
    version = Path(folder.address, "m/1")
    shutil.copytree(models_dir / "two_versions/1", version)
    shutil.copy(tflite_dir / "two_versions/2/model.tflite", version)
    folder.write("in/a.jsonl", _lines(2.0))
    for flags, answer in (((), b"3.0\n"), (("--prefer_tflite_model",), b"4.0\n")):
        assert folder.predict(version.parent, "*", *flags)[0] == 0
        assert folder.files("out")["a.jsonl.jsonl"] == answer


def test_too_many_bad_rows_stop_the_job(folder: _Place, models_dir: Path) -> None:
    folder.write("in/a.jsonl", _lines(1.0, -1.0, 2.0))
    folder.write("in/b.jsonl", _lines(1.0, -1.0, 2.0))
    code, said, error = folder.predict(models_dir / "positive", "*", "--max_bad_rows=1")
    assert (code, said.count("\n")) == (4, 1)
    assert error == (
        "Error: There are more than 1 bad rows. Stopped; correct them, or raise --max_bad_rows"
    )
    assert set(folder.files("out")) == {
        "a.jsonl.done.json",
        "a.jsonl.errors.jsonl",
        "a.jsonl.jsonl",
        "b.jsonl.errors.jsonl",
    }


def test_a_model_of_a_fixed_number_of_rows_gets_so_many(
    folder: _Place, models_dir: Path, runtime_dir: Path
) -> None:
    folder.write("in/a.jsonl", _lines(*([[n, 0], [0, 0]] for n in range(7))))
    flags = ("--cache_dir", models_dir.parent)
    code, _, _ = folder.predict(runtime_dir / "keras3_sequential_fixed_batch", "*", *flags)
    lines = [json.loads(line) for line in folder.files("out")["a.jsonl.jsonl"].splitlines()]
    assert (code, lines) == (0, [[n + 1, n + 1] for n in range(7)])


def test_outputs_that_are_not_of_rows_are_reported(folder: _Place, runtime_dir: Path) -> None:
    folder.write("in/a.jsonl", _lines([1.0], [2.0]))
    code, _, _ = folder.predict(runtime_dir / "shapes", "*", "--signature_name=scalar")
    assert code == 4
    assert (
        b"has the shape [] for 1 rows: it is not one value for each"
        in (folder.files("out")["a.jsonl.jsonl"])
    )


def test_finished_file_is_done_again_only_if_something_changed(
    place: _Place, models_dir: Path
) -> None:
    place.write("in/a.jsonl", _lines(1.0, -1.0))
    place.write("in/b.jsonl", _lines(1.0))
    first = place.predict(models_dir / "positive", "*")
    again = place.predict(models_dir / "positive", "*")
    assert (first[0], again[0]) == (4, 4)
    assert [line.endswith(" (done before)") for line in again[1].splitlines()] == [
        True,
        True,
        False,
    ]
    place.write("in/a.jsonl", _lines(1.0, 2.5))
    code, said, _ = place.predict(models_dir / "positive", "*")
    made = place.files("out")
    assert [line.endswith(" (done before)") for line in said.splitlines()] == [False, True, False]
    assert (code, made["a.jsonl.jsonl"], made["a.jsonl.errors.jsonl"]) == (0, b"2.0\n3.5\n", b"")
    code, said, _ = place.predict(models_dir / "half_plus_two", "*")
    assert "(done before)" not in said
    assert place.files("out")["b.jsonl.jsonl"] == b"2.5\n"


def test_a_killed_job_goes_on_and_makes_the_same(place: _Place, models_dir: Path) -> None:
    for number in range(6):
        place.write(f"in/{number}.jsonl", _lines(*range(number, 10_000)))
    names = ("--input", f"{place.address}/in/*", "--output", f"{place.address}/killed")
    command: list[str | Path] = [COMMAND, "batch", models_dir / "half_plus_two", *names]
    environment = _environment(place.environment)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while not place.has("killed/0.jsonl.done.json"):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not place.has("killed/5.jsonl.done.json")
    code, said, _ = place.run_apart(*command[2:])
    assert (code, "0.jsonl.jsonl (done before)" in said) == (0, True)
    assert place.predict(models_dir / "half_plus_two", "*")[0] == 0
    killed = place.files("killed")
    assert {name: killed[name] for name in killed if "unfinished" not in name} == place.files("out")


def test_the_command_of_the_job_definition_is_one(folder: _Place, models_dir: Path) -> None:
    [block] = re.findall(r"Command:\n((?: +- .*\n)+)", _TEMPLATE.read_text())
    given = {
        "Ref::model": models_dir / "half_plus_two",
        "Ref::input": f"{folder.address}/in/*",
        "Ref::output": f"{folder.address}/out",
        "Ref::signature_name": "serving_default",
        "Ref::batch_size": "64",
        "Ref::max_bad_rows": "0",
    }
    verb, *arguments = re.findall(r"- (.*)", block)
    folder.write("in/a.jsonl", _lines(1.0))
    code, _, _ = folder.run_apart(*(given.get(argument, argument) for argument in arguments))
    assert (verb, code) == ("batch", 0)
    assert folder.files("out")["a.jsonl.jsonl"] == b"2.5\n"


def test_a_compiled_lite_model_predicts_without_tensorflow(
    folder: _Place, tflite_dir: Path, tmp_path: Path
) -> None:
    model = tmp_path / "compiled/1"
    shutil.copytree(tflite_dir / "half_plus_two/123", model)
    mark(model, "2.3.0")
    folder.write("in/a.jsonl", _lines(1.0))
    program = """
import sys
from pathlib import Path
from lambda_serving.cli.batch import batch
batch.main(sys.argv[1:], standalone_mode=False)
maps = Path("/proc/self/maps").read_text()
print(*(name in maps for name in ("litert", "libtensorflow")))
"""
    files = ("--input", f"{folder.address}/in/a.jsonl", "--output", f"{folder.address}/out")
    said = subprocess.check_output([sys.executable, "-c", program, model, *files], text=True)
    assert said.splitlines()[-1] == "True False"
    assert folder.files("out")["a.jsonl.jsonl"] == b"2.5\n"


def test_each_file_is_of_one_shard(place: _Place, models_dir: Path) -> None:
    for number in range(5):
        place.write(f"in/{number}.jsonl", _lines(number))
    shards = [
        place.predict(
            models_dir / "half_plus_two",
            "*",
            AWS_BATCH_JOB_ARRAY_SIZE="2",
            AWS_BATCH_JOB_ARRAY_INDEX=str(index),
        )
        for index in range(2)
    ]
    done = [[line[0] for line in said.splitlines()[:-1]] for _, said, _ in shards]
    assert done == [["0", "2", "4"], ["1", "3"]]
    assert len(place.files("out")) == 10
    code, said, _ = place.predict(models_dir / "half_plus_two", "*", "--shards=9", "--shard=8")
    assert (code, said) == (0, "Nothing to do: there are fewer files than 9 shards\n")


@pytest.mark.parametrize("name", ["a.jsonl", "a.tfrecord"])
def test_an_empty_file_has_an_empty_output(folder: _Place, models_dir: Path, name: str) -> None:
    folder.write(f"in/{name}", b"")
    code, said, _ = folder.predict(
        models_dir / "half_plus_two", "*", "--signature_name=regress_x_to_y"
    )
    assert (code, said.splitlines()[0].startswith(f"{name}: 0 rows -> ")) == (0, True)
    assert folder.files("out")[f"{name}.jsonl"] == b""


def test_files_that_cannot_be_read_do_not_hinder_others(folder: _Place, models_dir: Path) -> None:
    whole = _tfrecord(_example(1.0), _example(2.0))
    for name, content in {
        "a.tfrecord": whole,
        "b.tfrecord": whole[:-1],
        "c.tfrecord": whole[:3],
        "d.tfrecord": whole.replace(_example(2.0), _example(3.0)),
        "e.tfrecord": b"no records at all",
        "f.npz": b"no arrays",
        "g.npz": _array_file(Path(folder.address, "g.npz"), x=[1.0]),
        "h.npz": _array_file(Path(folder.address, "h.npz"), inputs=[1.0]),
        "i.npz": _array_file(Path(folder.address, "i.npz"), inputs="scalar"),
        "j.npz": _array_file(Path(folder.address, "j.npz"), inputs=["a"])[:50],
        "k.npz": _array_file(Path(folder.address, "k.npz"), inputs=["a"]).replace(b"(1,)", b"(0,)"),
    }.items():
        folder.write(f"in/{name}", content)
    flags = ("--signature_name=regress_x_to_y",)
    code, said, errors = folder.predict(models_dir / "half_plus_two", "*", *flags)
    assert code == 1
    assert said.splitlines()[0].startswith("a.tfrecord: 2 rows -> ")
    assert said.splitlines()[1].endswith("; bad rows: 0, failed files: 10")
    for line, reason in zip(
        errors.splitlines(),
        [
            "b.tfrecord: Record 2 is cut short",
            "c.tfrecord: Record 1 is cut short",
            "d.tfrecord: Record 2 does not match its checksum",
            "e.tfrecord: Record 1 does not start like one of a TFRecord file",
            "f.npz: This is not an npz file: ",
            "g.npz: There is no array for the input inputs. The file has: x. Name its arrays",
            "h.npz: The array inputs holds float64, and the signature takes string. Save it",
            "i.npz: The array inputs has no dimension of rows",
            "j.npz: This is not an npz file: ",
            "k.npz: This is not an npz file: Bad CRC-32 for file ",
        ],
        strict=True,
    ):
        assert line.startswith(f"Error: {reason}")
    assert set(folder.files("out")) == {"a.tfrecord.jsonl", "a.tfrecord.done.json"}


@pytest.mark.parametrize(
    ("model", "pattern", "place", "flags", "reason"),
    [
        ("/nowhere", "*.jsonl", "out", [], "/nowhere does not exist. Correct the path"),
        (_MLP, "*.json", "out", [], "No file matches {}/in/*.json. Correct the pattern: such as"),
        (_MLP, "", "out", [], "The pattern {}/in/ names no files: such as folder/*.jsonl or s3:"),
        (_MLP, "*.txt", "out", [], "The name of a.txt does not tell its format. Give it: --form"),
        (_MLP, "*", "out", ["--signature_name=no"], 'Serving signature name: "no" not found in'),
        (
            _MLP,
            "*.jsonl",
            "/dev/null/out",
            [],
            "Could not write /dev/null/out/a.jsonl.jsonl: N",
        ),
        (_MLP, "*.jsonl", "/proc/nowhere", [], "Could not write /proc/nowhere/a.jsonl.jsonl: "),
        (_MLP, "*.jsonl", "in", [], "{}/in/a.jsonl.jsonl would be one of the inputs. Choose anot"),
        (_MLP, "*.jsonl", "gs://b/out", [], "--output gs://b/out has the scheme gs:. Supported "),
    ],
)
def test_mistake_of_a_user_is_one_sentence(
    folder: _Place, model: object, pattern: str, place: str, flags: list[str], reason: str
) -> None:
    folder.write("in/a.jsonl", _lines(1.0))
    folder.write("in/a.txt", _lines(1.0))
    out = place if "/" in place else f"{folder.address}/{place}"
    where = ("--input", f"{folder.address}/in/{pattern}", "--output", out)
    code, _, error = folder.run(model, *where, *flags)
    assert (code, error.count("\n")) == (1, 0)
    assert error.startswith(f"Error: {reason.format(folder.address)}")


@pytest.mark.parametrize(
    ("model", "pattern", "output", "reason"),
    [
        ("s3://nowhere/m", "in/*", "s3://{}/out", "Could not read s3://nowhere/m: the bucket do"),
        ("s3://{}/job/in", "in/*", "s3://{}/out", "s3://{}/job/in is not the folder of a version"),
        (_MLP, "no/*", "s3://{}/out", "No file matches s3://{}/job/no/*. Correct the pattern"),
        (_MLP, "in/*", "s3://nowhere/out", "Could not read s3://nowhere/out: the bucket does not"),
    ],
)
def test_mistake_of_a_user_with_buckets_is_one_sentence(
    client: "S3Client", endpoint: str, model: object, pattern: str, output: str, reason: str
) -> None:
    place = _Bucket(client, {**_KEYS, "AWS_ENDPOINT_URL": endpoint})
    place.write("in/a.jsonl", _lines(1.0))
    bucket = place.address.removeprefix("s3://").removesuffix("/job")
    where = ("--input", f"{place.address}/{pattern}", "--output", output.format(bucket))
    code, _, error = place.run(str(model).format(bucket), *where)
    assert (code, error.count("\n")) == (1, 0)
    assert error.startswith(f"Error: {reason.format(bucket)}")


@pytest.mark.parametrize("model", ["models", "models/2"])
def test_models_in_buckets_are_fetched(
    client: "S3Client", endpoint: str, models_dir: Path, model: str
) -> None:
    place = _Bucket(client, {**_KEYS, "AWS_ENDPOINT_URL": endpoint})
    for path in (models_dir / "two_versions").rglob("*"):
        if path.is_file():
            name = path.relative_to(models_dir / "two_versions")
            place.write(f"models/{name}", path.read_bytes())
    place.write("in/a.jsonl", _lines(2.0))
    where = ("--input", f"{place.address}/in/*", "--output", f"{place.address}/out")
    assert place.run_apart(f"{place.address}/{model}", *where)[0] == 0
    assert place.files("out")["a.jsonl.jsonl"] == b"4.0\n"


def test_a_terminal_shows_a_bar(folder: _Place) -> None:
    rows = json.loads((MNIST / "request.json").read_bytes())["instances"]
    folder.write("in/a.jsonl", _lines(*rows))
    where = ("--input", f"{folder.address}/in/*", "--output", f"{folder.address}/out")
    environment = _environment({"TERM": "xterm"})
    said = on_a_terminal([COMMAND, "batch", _MLP, *where], environment)
    assert b"0/1" in said
    assert b"1 files, " in said
