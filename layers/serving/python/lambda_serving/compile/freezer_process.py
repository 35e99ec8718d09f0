"""Compiles graphs, each in a fork of this process: `python -m` this module.

Requests come on standard input, one line of JSON each: `{"source": ..., "out": ..., "tags": [...],
"op_libraries": [...]}` and either `"onednn"` and `"mapped"` or `"signatures"`. `source` is a
SavedModel that the graph restore can load, `op_libraries` are paths of custom ops.

With `onednn` and `mapped`, the fork writes `saved_model.pb` and `weights/` to the folder `out`: a
graph that uses oneDNN's kernels if `onednn`, and keeps large constants in files if `mapped`. With
`signatures`, a list of names, it writes `model.tflite` there.

Lines of JSON on standard output tell the current stage (`{"stage": ...}`), the result
(`{"result": ...}`) or why the model cannot be compiled (`{"refused": ...}`), and last the exit code
of the fork (`{"ended": ...}`). Without a whole TensorFlow, the only answer is `{"broken": ...}`.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lambda_serving.compile import NotCompilable
from lambda_serving.compile.compiled_graph import compiled_graph
from lambda_serving.compile.conversion import convert
from lambda_serving.installation import broken

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def _main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # the same graph on every machine
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), 1)  # whatever libraries print goes to stderr
    for line in sys.stdin:
        _say("starting TensorFlow")
        try:
            import tensorflow  # noqa: F401, ICN001 - imported once for all forks
        except ImportError as error:
            _print({"broken": str(broken(error))})
            return
        _print({"ended": _in_a_fork(partial(_answer, **json.loads(line)))})


def _in_a_fork(run: Callable[[], None]) -> int:
    """Calls `run` in a fork of this process, in which no graph was loaded; returns its exit code.

    On Linux, the fork dies with this process.
    """
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    code = 1
    try:
        run()
        code = 0
    except BaseException:  # noqa: BLE001 - the fork ends here
        traceback.print_exc()
    finally:
        os._exit(code)


def _answer(source: str, out: str, op_libraries: list[str], **how: Any) -> None:
    import tensorflow as tf

    for library in op_libraries:
        tf.load_op_library(library)
    try:
        write = convert if "signatures" in how else compiled_graph
        result = write(Path(source), Path(out), stage=_say, **how)
    except NotCompilable as refused:
        _print({"refused": str(refused)})
    except OSError as error:
        _print({"cannot write": [error.errno, error.strerror]})
    else:
        _print({"result": result})


def _say(stage: str) -> None:
    _print({"stage": stage})


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
