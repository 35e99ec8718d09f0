"""TensorFlow's C API over real SavedModels: tensors in and out, errors, threads, memory."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ServingError,
)
from lambda_serving.servables import saved_model, signature_defs
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c.load_session import load_session
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_function import session_function
from support.dtype_models import NUMBERS

_MNIST = Path(__file__).parents[3] / "examples/mnist/saved/1"
_FOREVER = np.array(
    [2**63 - 1]
)  # no power of two that int64 holds is as large: the loop never ends

Identity = Callable[[str], Servable]


@pytest.fixture(scope="module")
def identity(models_dir: Path) -> Iterator[Identity]:
    """The servable `y = x` of a dtype by its name in `models_dir`."""
    with ExitStack() as stack:

        @cache
        def load(dtype: str) -> Servable:
            return stack.enter_context(saved_model.load(models_dir / f"identity_{dtype}" / "1"))

        yield load


@pytest.fixture
def dense(models_dir: Path) -> Iterator[Session]:
    """`y = x w` of four columns as a bare session: `serving_default_x:0` in."""
    session, _ = load_session(str(models_dir / "dense" / "1"), ["serve"])
    yield session
    session.close()


@pytest.fixture
def loop(models_dir: Path) -> Iterator[Servable]:
    """The least power of two that is no less than x, found by a loop in the graph."""
    with saved_model.load(models_dir / "while_loop" / "1") as servable:
        yield servable


def _sample(dtype: DType, shape: tuple[int, ...]) -> Array:
    """Arrays of arbitrary bits, NaNs and infinities among them; booleans of both values."""
    size = int(np.prod(shape))
    random = np.random.default_rng(7)
    if dtype is DType.BOOL:
        return random.integers(0, 2, size).astype(bool).reshape(shape)
    return np.frombuffer(random.bytes(size * dtype.numpy.itemsize), dtype.numpy).reshape(shape)


def _echo(servable: Servable, array: Array) -> Array:
    return servable.run("", {"x": array})["y"]


def _assert_same(got: Array, wanted: Array) -> None:
    assert (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 4, 5), (100_000,)], ids=str)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_come_back_bit_by_bit(
    identity: Identity, name: str, shape: tuple[int, ...]
) -> None:
    array = _sample(NUMBERS[name], shape)
    _assert_same(_echo(identity(name), array), array)


@pytest.mark.parametrize("name", NUMBERS)
def test_layout_in_memory_does_not_matter(identity: Identity, name: str) -> None:
    array = _sample(NUMBERS[name], (6, 8))
    views = [
        array.T,
        array[::2, ::-3],
        np.asfortranarray(array),
        np.broadcast_to(array[0], (3, 8)),
        array[2:2],
        array[1, 1],
    ]
    for view in views:
        _assert_same(_echo(identity(name), np.asarray(view)), np.array(view, order="C"))


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in ("bool", "bfloat16")])
def test_foreign_byte_order_is_turned(identity: Identity, name: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(NUMBERS[name].numpy)
    _assert_same(_echo(identity(name), array.astype(array.dtype.newbyteorder(">"))), array)


def test_array_that_came_back_is_the_callers_own(identity: Identity) -> None:
    array = np.ones(1000, np.float32)
    first = _echo(identity("float32"), array)
    first[:] = 7.0
    assert (_echo(identity("float32"), array) == 1.0).all()


_STRINGS = [
    b"",
    b"\0",
    b"a\0b\0",
    b"\xff\xfe\x80",
    b"x" * 22,  # the longest that a TF_TString holds in itself
    b"x" * 23,
    b"\0" * 22 + b"y",
    bytes(range(256)) * 20,
    "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode(),
]


@pytest.mark.parametrize("shape", [(), (0,), (9,), (2, 0), (3, 3), (1, 9, 1, 1)], ids=str)
def test_strings_come_back_byte_by_byte(identity: Identity, shape: tuple[int, ...]) -> None:
    array = np.array(_STRINGS[: int(np.prod(shape))] or None, object)
    array = np.resize(array, shape) if array.size else np.empty(shape, object)
    got = _echo(identity("string"), array)
    assert (got.dtype.kind, got.shape, got.tolist()) == ("O", shape, array.tolist())


@pytest.mark.parametrize("text", _STRINGS, ids=len)
def test_string_alone_comes_back(identity: Identity, text: bytes) -> None:
    array = np.array(text, object)
    assert _echo(identity("string"), array).tolist() == text


def test_layout_of_strings_does_not_matter(identity: Identity) -> None:
    array = np.array(_STRINGS, object).reshape(3, 3)
    for view in (array.T, array[::-1, ::2], array[:, 1]):
        assert _echo(identity("string"), view).tolist() == view.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "", "x"], object),
        np.array(["gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "", "x"]),
        np.array([b"gr\xc3\xbcn", b"", b"x"]),
        np.array(["gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", b"", np.str_("x")], object),
    ],
    ids=["str objects", "characters", "bytes", "mixed"],
)
def test_str_goes_in_as_utf8(identity: Identity, array: Array) -> None:
    assert _echo(identity("string"), array).tolist() == [b"gr\xc3\xbcn", b"", b"x"]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([b"a", 1], object), "A string tensor holds bytes or str, not int"),
        (np.array([None], object), "A string tensor holds bytes or str, not NoneType"),
        (np.array("1", "datetime64[Y]"), "TensorFlow has no dtype for arrays of datetime64[Y]"),
        (np.zeros(2, np.longdouble), "TensorFlow has no dtype for arrays of float128"),
        (np.zeros(2, "f4,i4"), "TensorFlow has no dtype for arrays of [('f0', '<f4'), ('f1',"),
        (np.array(["\ud800"], object), "A str that UTF-8 cannot encode: 'utf-8' codec can't"),
        (np.array([1.0]), "Expects arg[0] to be string but double is provided"),
    ],
)
def test_elements_that_are_no_strings_are_refused(
    identity: Identity, array: Array, message: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _echo(identity("string"), array)
    assert str(raised.value).startswith(message)
    assert _echo(identity("string"), np.array([b"well"], object)).tolist() == [b"well"]


@pytest.mark.parametrize(
    ("array", "given"),
    [
        (np.array([1]), "int64"),
        (np.array([True]), "bool"),
        (np.array([1.0]), "double"),
        (np.array([b"1.0"], object), "string"),
        (np.array([1j]), "complex128"),
    ],
)
def test_array_of_another_dtype_than_the_graphs_is_refused(
    identity: Identity, array: Array, given: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        _echo(identity("float32"), array)
    assert str(raised.value) == f"Expects arg[0] to be float but {given} is provided"


@pytest.mark.parametrize(
    "name",
    ["nope:0", "", ":0", "serving_default_x:1", "serving_default_x:-1", "serving_default_x:x"],
)
def test_tensor_that_the_graph_does_not_have_is_refused(dense: Session, name: str) -> None:
    for feeds, fetches in (([name], ["serving_default_x:0"]), ([], [name])):
        with pytest.raises(InvalidArgument) as raised:
            session_function(dense, feeds, fetches)
        assert str(raised.value) == f"Tensor {name} is not in the graph"


@pytest.mark.parametrize("arrays", [0, 2])
def test_another_number_of_arrays_than_of_feeds_is_refused(dense: Session, arrays: int) -> None:
    function = session_function(dense, ["serving_default_x:0"], ["serving_default_x:0"])
    with pytest.raises(ValueError, match="zip"):
        function([np.zeros((1, 4), np.float32)] * arrays, 0)


def test_tensor_may_be_named_without_its_index_and_fetched_twice(models_dir: Path) -> None:
    dense, meta_graph = load_session(str(models_dir / "dense" / "1"), ["serve"])
    definitions = signature_defs.definitions(meta_graph)
    y = signature_defs.signatures(definitions)["serving_default"].outputs["y"].tensor_name
    function = session_function(dense, ["serving_default_x"], [y, y])
    answers = function([np.ones((1, 4), np.float32)], 0)
    assert [answer.tolist() for answer in answers] == [[[2.0, 2.0]]] * 2


def test_tensor_that_is_fed_cannot_be_fetched(dense: Session) -> None:
    function = session_function(dense, ["serving_default_x:0"], ["serving_default_x:0"])
    with pytest.raises(InvalidArgument) as raised:
        function([np.zeros((1, 4), np.float32)], 0)
    assert str(raised.value) == "serving_default_x:0 is both fed and fetched."


def test_quick_function_runs_in_the_thread_of_the_caller_with_the_same_answers(
    dense: Session,
) -> None:
    function = session_function(
        dense, ["serving_default_x:0"], ["StatefulPartitionedCall:0"], follows_shapes=True
    )
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    for _ in range(200):  # how quick it is depends on the machine
        assert function([rows], 300_000)[0].tolist() == [[2.0, 4.0], [10.0, 12.0]]
        if function.is_quick([rows]):
            break
    else:
        raise AssertionError("no run was quick")
    assert function.is_quick([rows[:1]])
    assert not function.is_quick([np.zeros((3, 4), np.float32)])
    for timeout_ms in (0, 300_000):
        assert function([rows], timeout_ms)[0].tolist() == [[2.0, 4.0], [10.0, 12.0]]


def test_graph_that_may_loop_keeps_its_timeout(models_dir: Path) -> None:
    with saved_model.load(models_dir / "while_loop" / "1") as servable:
        for _ in range(3):
            servable.run("", {"x": np.array([3])}, timeout_ms=300_000)
        assert not servable.is_quick("", {"x": np.array([3])})
        with pytest.raises(DeadlineExceeded):
            servable.run("", {"x": np.array([2**63 - 1])}, timeout_ms=100)


def test_failing_op_keeps_tensorflows_message(models_dir: Path) -> None:
    with saved_model.load(models_dir / "dense" / "1") as servable:
        with pytest.raises(InvalidArgument) as raised:
            servable.run("", {"x": np.zeros((1, 3), np.float32)})
        assert str(raised.value).startswith(
            "Matrix size-incompatible: In[0]: [1,3], In[1]: [4,2]\n\t [["
        )
        rows = np.array([[1, 2, 3, 4]], np.float32)
        assert servable.run("", {"x": rows})["y"].tolist() == [[4.0, 6.0]]


def test_run_over_its_time_ends_and_the_next_one_works(loop: Servable) -> None:
    with pytest.raises(DeadlineExceeded) as raised:
        loop.run("", {"x": _FOREVER}, timeout_ms=100)
    assert str(raised.value) == "Timed out waiting for notification"
    assert loop.run("", {"x": np.array([5, 64])}, timeout_ms=300_000)["y"].tolist() == [8, 64]


def test_closed_session_refuses_to_run(models_dir: Path) -> None:
    servable = saved_model.load(models_dir / "dense" / "1")
    servable.close()
    servable.close()
    with pytest.raises(FailedPrecondition) as raised:
        servable.run("", {"x": np.zeros((1, 4), np.float32)})
    assert str(raised.value) == "Session has been closed."


def test_closed_session_makes_no_functions(dense: Session) -> None:
    dense.close()
    with pytest.raises(FailedPrecondition):
        session_function(dense, ["serving_default_x:0"], ["serving_default_x:0"])


def test_close_waits_for_the_run_in_flight(dense: Session) -> None:
    closer = threading.Thread(target=dense.close)
    with dense.running():
        closer.start()
        closer.join(0.1)
        assert closer.is_alive()
    closer.join(300)
    assert not closer.is_alive()


def test_close_amid_runs_of_many_threads_lets_each_end_right(models_dir: Path) -> None:
    servable = saved_model.load(models_dir / "dense" / "1")
    enough = threading.Barrier(9)

    def run_until_closed(seed: int) -> int:
        rows = np.full((50, 4), seed, np.float32)
        done = 0
        while True:
            try:
                answer = servable.run("", {"x": rows})["y"]
            except FailedPrecondition:
                return done
            assert (answer == 2 * seed).all()
            done += 1
            if done == 20:
                enough.wait(300)

    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(run_until_closed, seed) for seed in range(8)]
        enough.wait(300)
        servable.close()
        assert all(run.result(300) >= 20 for run in runs)


def test_eight_threads_get_their_own_answers(identity: Identity) -> None:
    numbers, strings = identity("float64"), identity("string")

    def echo(seed: int) -> None:
        random = np.random.default_rng(seed)
        array = random.random((seed % 5 + 1, 100))
        texts = np.array([random.bytes(size) for size in range(40)], object)
        _assert_same(_echo(numbers, array), array)
        assert _echo(strings, texts).tolist() == texts.tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(echo, range(400))) == [None] * 400


def _remove(*parts: str) -> Callable[[Path], None]:
    return lambda export: export.joinpath(*parts).unlink()


def _rewrite(change: Callable[[bytes], bytes], *parts: str) -> Callable[[Path], None]:
    def rewrite(export: Path) -> None:
        file = export.joinpath(*parts)
        file.write_bytes(change(file.read_bytes()))

    return rewrite


def _file_instead(export: Path) -> None:
    shutil.rmtree(export)
    export.write_bytes(b"")


_SHARD = ("variables", "variables.data-00000-of-00001")
_INDEX = ("variables", "variables.index")


@pytest.mark.parametrize(
    ("spoil", "error", "part"),
    [
        (shutil.rmtree, NotFound, "Could not find SavedModel .pb or .pbtxt"),
        (_file_instead, NotFound, "Could not find SavedModel .pb or .pbtxt"),
        (_remove("saved_model.pb"), NotFound, "Could not find SavedModel .pb or .pbtxt"),
        (
            _rewrite(lambda _: b"no model", "saved_model.pb"),
            OutOfRange,
            "Read less bytes than requested",
        ),
        (
            _rewrite(lambda text: text[: len(text) // 2], "saved_model.pb"),
            OutOfRange,
            "Read less bytes than requested",
        ),
        (
            _rewrite(lambda _: b"", "saved_model.pb"),
            NotFound,
            "Could not find meta graph def matching supplied tags: { serve }",
        ),
        (
            _rewrite(lambda text: text.replace(b"MatMul", b"MutMal"), "saved_model.pb"),
            NotFound,
            "Op type not registered 'MutMal'",
        ),
        (_remove(*_INDEX), DataLoss, "variables/variables.index is missing"),
        (
            lambda export: shutil.rmtree(export / "variables"),
            DataLoss,
            "variables/variables.index is missing",
        ),
        (_remove(*_SHARD), NotFound, "variables.data-00000-of-00001; No such file or directory"),
        (
            _rewrite(lambda text: text[:-5], *_SHARD),
            OutOfRange,
            "Read less bytes than requested",
        ),
        (
            _rewrite(lambda text: bytes([text[0] ^ 1]) + text[1:], *_SHARD),
            DataLoss,
            "Checksum does not match",
        ),
        (_rewrite(lambda text: text[:20], *_INDEX), DataLoss, "file is too short to be an sstable"),
    ],
    ids=[
        "no folder",
        "a file for a folder",
        "no saved_model.pb",
        "saved_model.pb of text",
        "half a saved_model.pb",
        "empty saved_model.pb",
        "unknown op",
        "no index",
        "no variables",
        "no shard",
        "short shard",
        "flipped bit",
        "short index",
    ],
)
def test_broken_export_is_an_error_that_names_it(
    models_dir: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    error: type[ServingError],
    part: str,
) -> None:
    export = tmp_path / "export"
    shutil.copytree(models_dir / "dense" / "1", export)
    spoil(export)
    with pytest.raises(ServingError) as raised:
        saved_model.load(export, cache=tmp_path / "cache")
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"Could not load the SavedModel in {export}: ")
    assert part in str(raised.value)


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"tags": ("serve", "gpu")}, NotFound, "matching supplied tags: { gpu serve }"),
        ({"tags": ()}, NotFound, "matching supplied tags: {  }"),
        ({"session_config": b"\xff"}, InvalidArgument, "Unparseable ConfigProto"),
    ],
)
def test_options_that_do_not_fit_the_export_are_refused(
    models_dir: Path, options: dict[str, Any], error: type[ServingError], part: str
) -> None:
    with pytest.raises(error) as raised:
        saved_model.load(models_dir / "dense" / "1", **options)
    assert part in str(raised.value)


def _child(program: str, *arguments: object) -> str:
    """What a fresh Python prints when it runs `program`."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_runs_that_succeed_and_fail_keep_no_memory(models_dir: Path) -> None:
    """2,000 runs move 1.5 GB in and as much out: to keep any of it would break 100 MB at once."""
    program = """
        import sys
        from pathlib import Path

        import numpy as np
        import psutil

        from lambda_serving.servables import saved_model
        from lambda_serving.errors import InvalidArgument

        models = Path(sys.argv[1])
        strings = saved_model.load(models / "identity_string" / "1")
        floats = saved_model.load(models / "identity_float32" / "1")
        dense = saved_model.load(models / "dense" / "1")
        texts = np.array([bytes(1000)] * 1000, object)
        numbers = np.zeros(250_000, np.float32)
        columns = np.zeros((1, 250_000), np.float32)
        half_bad = np.array([*texts[:999], 1], object)

        def run(servable, array):
            try:
                servable.run("", {"x": array})
            except InvalidArgument:
                return 1
            return 0

        def runs(times):
            return sum(
                run(servable, array)
                for _ in range(times)
                for servable, array in (
                    (strings, texts), (floats, numbers), (dense, columns), (strings, half_bad)
                )
            )

        runs(25)
        before = psutil.Process().memory_info().rss
        assert runs(500) == 1000
        print((psutil.Process().memory_info().rss - before) // 2**20)
    """
    assert int(_child(program, models_dir)) < 100


def test_loads_that_succeed_and_fail_keep_no_memory(models_dir: Path) -> None:
    """30 sessions that stay cost 136 MB, their graphs alone 40 MB, those of failed loads 19 MB."""
    program = """
        import sys
        from pathlib import Path

        import psutil

        from lambda_serving.servables import saved_model
        from lambda_serving.errors import InvalidArgument

        mnist, fails = map(Path, sys.argv[1:])

        def load(times):
            for _ in range(times):
                saved_model.load(mnist).close()
                saved_model.load(mnist)  # given back with its last reference
                try:
                    saved_model.load(fails)
                except InvalidArgument as error:
                    kept.append(error)

        kept = []
        load(5)
        before = psutil.Process().memory_info().rss
        load(30)
        print((psutil.Process().memory_info().rss - before) // 2**20)
    """
    assert int(_child(program, _MNIST, models_dir / "warmup_fails" / "1")) < 10


def test_process_that_predicts_does_not_import_tensorflow(models_dir: Path) -> None:
    program = """
        import sys

        import numpy as np

        from lambda_serving.servables import saved_model

        with saved_model.load(sys.argv[1]) as servable:
            print(servable.run("", {"x": np.float32([[1, 2, 3, 4]])})["y"].tolist())
        print([name for name in sys.modules if name.startswith(("tensorflow", "keras"))])
    """
    assert _child(program, models_dir / "dense" / "1") == "[[4.0, 6.0]]\n[]\n"


def test_tensorflow_and_numpys_random_may_be_imported_afterwards(models_dir: Path) -> None:
    program = """
        import sys

        from lambda_serving.servables import saved_model

        with saved_model.load(sys.argv[1]) as servable:
            import numpy.random
            import tensorflow as tf

            rows = numpy.random.default_rng(1).integers(0, 9, (2, 4)).astype("float32")
            ours = servable.run("", {"x": rows})["y"]
        theirs = tf.saved_model.load(sys.argv[1]).signatures["serving_default"](x=rows)["y"]
        print(ours.tolist() == theirs.numpy().tolist())
    """
    assert _child(program, models_dir / "dense" / "1") == "True\n"
