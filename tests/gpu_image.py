"""Checks that TensorFlow opens all of NVIDIA's libraries in the gpu image, and goes on to the GPU.

`python gpu_image.py` needs the image, Docker and gcc, but no GPU: a driver that does nothing
(`data/cuda_driver.c`) makes TensorFlow look for them.
"""

import re
import subprocess
import tempfile
from pathlib import Path

import click

from support import docker_engine

_IMAGE = "lambda-serving:gpu"
_DRIVER = Path(__file__).parent / "data/cuda_driver.c"
_MODEL = Path(__file__).parents[1] / "examples/half_plus_two/1"
_DRIVER_NAMES = ("libcuda.so.1", "libnvidia-ml.so.1")
_LOAD = "from lambda_serving.servables import saved_model; saved_model.load('/model')"
_OPENED = re.compile("Successfully opened dynamic library (.*)")
_MISSED = re.compile("Could not load dynamic library '(.*?)'")
_WENT_ON = "cudaGetDevice() failed"  # the driver ends it: all libraries were found


def _log_of_a_load(driver: Path) -> str:
    """What TensorFlow says when a model is loaded in the image with this driver."""
    mounted = [f"--volume={driver}:/usr/lib/{name}:ro" for name in _DRIVER_NAMES]
    model = f"--volume={_MODEL}:/model:ro"
    told = ("--env=TF_CPP_VMODULE=dso_loader=1", "--env=TF_CPP_MAX_VLOG_LEVEL=0")
    command = ("docker", "run", "--rm", *mounted, model, *told, "--entrypoint=python3")
    done = subprocess.run(
        (*command, _IMAGE, "-c", _LOAD), stderr=subprocess.PIPE, text=True, check=False
    )
    return done.stderr


@click.command(help=__doc__)
def _main() -> None:
    with docker_engine.running(), tempfile.TemporaryDirectory() as folder:
        driver = Path(folder, "driver.so")
        compile_driver = ("gcc", "-shared", "-fPIC", "-o", driver, _DRIVER)
        subprocess.run(compile_driver, check=True)
        log = _log_of_a_load(driver)
    if (missed := _MISSED.findall(log)) or _WENT_ON not in log:
        raise click.ClickException(f"{log}\nNot found: {', '.join(missed) or 'the driver'}")
    click.echo(f"TensorFlow opened {', '.join(sorted(set(_OPENED.findall(log))))}")


if __name__ == "__main__":
    _main()
