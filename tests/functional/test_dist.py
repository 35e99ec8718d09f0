"""What a release publishes: it is small and whole, and serves where nothing else of ours is."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from lambda_serving.project.starting import start
from support.server_process import MNIST, running

_ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_TOOLS = _ROOT / ".venv-dist/bin"
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_PACKAGE = Path("layers/serving/python/lambda_serving")
_FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "template.yaml")
_FOLDERS = ("functions", "images", "infra", "layers", "requirements")
_VENDORED = "lambda_serving/project/files/vendored/"
_MEGABYTE = 2**20


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes, of a copy: building writes beside the sources."""
    copy = tmp_path_factory.mktemp("source")
    for name in _FILES:
        shutil.copy(_ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for name in _FOLDERS:
        shutil.copytree(_ROOT / name, copy / name, ignore=ignored)
    [line] = [each for each in (_ROOT / "Makefile").read_text().splitlines() if "uv build" in each]
    command = line.strip().replace("$(BIN)", str(_BIN))
    subprocess.run(["/bin/sh", "-ec", command], cwd=copy, check=True, timeout=300)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [found] = dist.glob("*.whl")
    return found


def test_there_are_a_wheel_and_a_source_distribution(dist: Path) -> None:
    version = metadata.version("lambda-serving")
    assert {each.name for each in dist.iterdir()} - {".gitignore"} == {
        f"lambda_serving-{version}-py3-none-any.whl",
        f"lambda_serving-{version}.tar.gz",
    }


def test_a_registry_would_take_them(dist: Path) -> None:
    assert _TOOLS.exists(), "the tools of releases are missing: make .venv-dist/.done"
    files = [each for each in dist.iterdir() if each.name != ".gitignore"]
    command: list[str | Path] = [_TOOLS / "twine", "check", "--strict", *files]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (said.returncode, said.stdout.count("PASSED")) == (0, 2), said.stdout


def test_the_wheel_is_small_and_holds_the_package(wheel: Path) -> None:
    assert wheel.stat().st_size < _MEGABYTE
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(_ROOT / _PACKAGE.parent).as_posix()
        for path in (_ROOT / _PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    listed = (_ROOT / _PACKAGE / "project/files/vendored.txt").read_text().split()
    vendored = {
        f"{_VENDORED}{path.relative_to(_ROOT).as_posix()}"
        for pattern in listed
        for path in _ROOT.glob(pattern)
    }
    assert names == ours | vendored


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and of all else what the wheel says that it needs."""
    folder = tmp_path_factory.mktemp("user") / "venv"
    venv.create(folder)
    python = folder / "bin/python"
    command = f"{_BIN}/uv pip install --quiet --offline --no-deps --python {python}".split()
    subprocess.run([*command, wheel], check=True, timeout=300)
    [packages] = folder.glob("lib/*/site-packages")
    needed = set[str]()
    for each in _PROJECT["dependencies"]:
        _closure(each, needed)
    _link(needed, packages)
    return folder / "bin/lambda-serving"


def _closure(requirement: str, seen: set[str]) -> None:
    """Adds to `seen` the distributions that a requirement needs on this machine, itself included.

    One that is not installed here is left out: what needs it fails.
    """
    wanted = Requirement(requirement)
    name = wanted.name.lower()
    if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
        return
    with suppress(metadata.PackageNotFoundError):
        needed = metadata.requires(name) or ()
        seen.add(name)
        for each in needed:
            _closure(each, seen)


def _link(distributions: set[str], packages: Path) -> None:
    """Links whole folders, except those that several distributions share."""
    files = [
        (PurePosixPath(file), Path(str(file.locate())))
        for name in distributions
        for file in metadata.files(name) or ()
        if file.parts[0] != ".."
    ]
    shared = {"google", "backports"}
    for file, path in files:
        top = file.parts[0]
        if top in shared:
            there = packages.joinpath(*file.parts[:2])
            source = path.parents[len(file.parts) - 3] if len(file.parts) > 2 else path
        else:
            there = packages / top
            source = path.parents[len(file.parts) - 2] if len(file.parts) > 1 else path
        there.parent.mkdir(exist_ok=True)
        if not there.is_symlink():
            there.symlink_to(source)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_wheel_alone_serves_a_saved_model(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(MNIST / "saved", tmp_path / "models")
    shutil.copy(MNIST / "request.json", tmp_path)
    flags = "--model_name=MLP", f"--model_base_path={tmp_path}/models"
    with running(*flags, command=installed, under=("env", "-u", "PYTHONPATH")) as (url, _):
        asked: list[str | Path] = [
            installed,
            "predict",
            "MLP",
            f"@{tmp_path}/request.json",
            "--url",
            url,
        ]
        answered = subprocess.run(
            asked, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False
        )
    assert (answered.returncode, answered.stderr) == (0, "")
    assert answered.stdout.startswith('{"predictions":')


def test_the_wheel_alone_makes_the_project_that_the_repository_makes(
    installed: Path, tmp_path: Path
) -> None:
    made = subprocess.run(
        [installed, "init", "shop"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    here = start(tmp_path / "here/shop").project.root

    def files(root: Path) -> dict[str, bytes]:
        paths = (path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}

    assert files(tmp_path / "shop") == files(here)


def test_help_imports_nothing_but_click(installed: Path) -> None:
    """It is what a user asks first, and completion asks each time: numpy alone takes 0.1 s."""
    code = (
        "import sys\n"
        "from lambda_serving.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'__main__', '_distutils_hack'}))"
    )
    said = subprocess.run(
        [installed.with_name("python"), "-c", code, "--help"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines()[-1] == "['click', 'lambda_serving']"


@pytest.mark.parametrize(
    ("platform", "python"),  # the requirements locked for the tests are those of 3.11 on x86-64
    [
        ("x86_64-manylinux_2_28", "3.13"),
        ("aarch64-manylinux_2_28", "3.11"),
        ("aarch64-manylinux_2_28", "3.13"),
        ("aarch64-apple-darwin", "3.13"),
    ],
)
def test_every_dependency_has_a_wheel(platform: str, python: str) -> None:
    """Asks the package index, as `make setup` does."""
    command = f"{_BIN}/uv pip compile --quiet --no-config --only-binary :all:".split()
    where = ["--python-platform", platform, "--python-version", python]
    made = subprocess.run(
        [*command, *where, _ROOT / "pyproject.toml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert made.returncode == 0, made.stderr
    tensorflow = "tensorflow-cpu" if platform.startswith("x86") else "tensorflow"
    assert f"\n{tensorflow}==2.21." in made.stdout
    assert "\nai-edge-litert==" in f"\n{made.stdout}"
