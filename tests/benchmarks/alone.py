"""One runtime alone: `python alone.py SIDE MODEL THREADS ROW`.

SIDE is `ours`, `bare`, `tensorflow` or `onnx`. The model has one input, of float32, and ROW is the
shape of one row of it, like 28,28,1. With 0 THREADS each runtime takes as many as it does by
itself.

Prints a line at the first answer: the answer and the most memory until then. Then each line of
standard input is a number of rows and of seconds, during which it answers; what it prints is the
median of the milliseconds. Imports of this module count for every side, so there are few.
"""

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

_Call = Callable[[Any], Any]


def main(side: str, model: str, threads: str, row: str) -> None:
    shape = tuple(int(size) for size in row.split(","))
    call = _SIDES[side](model, int(threads))
    answer = call(_rows(1, shape)).ravel().tolist()
    _say(f'{{"answer": {answer}, "peak_kib": {_peak_kib()}}}')
    rows = _rows(1, shape)
    for line in sys.stdin:
        count, seconds = line.split()
        if len(rows) != int(count):
            rows = _rows(int(count), shape)
            call(rows)  # it may allocate
        _say(f'{{"milliseconds": {_median(call, rows, float(seconds))}}}')


def _rows(count: int, shape: tuple[int, ...]) -> Any:
    row = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(1, *shape)
    return np.repeat(row, count, axis=0)


def _ours(model: str, threads: int) -> _Call:
    """As a function loads it, with either runtime."""
    from lambda_serving.servables.saved_model import LiteRT, load

    options: dict[str, Any] = {}
    if threads:
        from lambda_serving.config.server_flags import Settings

        settings = Settings(tensorflow_session_parallelism=threads)
        options = {"litert": LiteRT(threads=threads), "session_config": settings.session_config()}
    servable = load(model, files_stay=True, **options)
    signature = servable.signatures["serving_default"]
    [name], [output] = signature.inputs, signature.outputs
    return lambda rows: servable.run("serving_default", {name: rows})[output]


def _bare(model: str, threads: int) -> _Call:
    """LiteRT's own interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(f"{model}/model.tflite", num_threads=threads or None)
    interpreter.allocate_tensors()
    [fed], [fetched] = interpreter.get_input_details(), interpreter.get_output_details()
    fed, fetched, shape = fed["index"], fetched["index"], tuple(fed["shape"])

    def call(rows: Any) -> Any:
        nonlocal shape
        if rows.shape != shape:
            interpreter.resize_tensor_input(fed, rows.shape)
            interpreter.allocate_tensors()
            shape = rows.shape
        interpreter.set_tensor(fed, rows)
        interpreter.invoke()
        return interpreter.get_tensor(fetched)

    return call


def _tensorflow(model: str, threads: int) -> _Call:
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(model)
    infer = loaded.signatures["serving_default"]
    [name], [output] = infer.structured_input_signature[1], infer.structured_outputs

    def call(rows: Any, _keep: Any = loaded) -> Any:
        return infer(**{name: tf.constant(rows)})[output].numpy()

    return call


def _onnx(model: str, threads: int) -> _Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0 is its default
    session = onnxruntime.InferenceSession(
        f"{model}/model.onnx", options, providers=["CPUExecutionProvider"]
    )
    fed = session.get_inputs()[0].name
    return lambda rows: session.run(None, {fed: rows})[0]


_SIDES: dict[str, Callable[[str, int], _Call]] = {
    "ours": _ours,
    "bare": _bare,
    "tensorflow": _tensorflow,
    "onnx": _onnx,
}


def _median(call: _Call, rows: Any, seconds: float) -> float:
    """Milliseconds of a call, of those in so many seconds; at least one."""
    times, until = list[float](), perf_counter() + seconds
    while not times or perf_counter() < until:
        start = perf_counter()
        call(rows)
        times.append(perf_counter() - start)
    return 1000 * float(np.median(times))


def _peak_kib() -> int:
    """The kernel's high-water mark of resident memory; `getrusage` counts the parent's too."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - without importing pathlib
        [line] = [each for each in status if each.startswith("VmHWM:")]
    return int(line.split()[1])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
