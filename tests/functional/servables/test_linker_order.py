"""Shared objects that only need others, as the linker takes them."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from lambda_serving.servables.tensorflow_c.linker_order import shared_object


def _library(folder: Path, name: str, source: str) -> Path:
    (folder / f"{name}.c").write_text(source)
    subprocess.run(
        [*("gcc", "-shared", "-fPIC"), f"{name}.c", "-o", f"{name}.so"], cwd=folder, check=True
    )
    return folder / f"{name}.so"


def test_first_needed_library_is_searched_first(tmp_path: Path) -> None:
    """`asked` would find its own `which` if it were opened itself."""
    first = _library(tmp_path, "first", "int which(void) { return 1; }")
    asked = _library(
        tmp_path, "asked", "int which(void) { return 2; } int answer(void) { return which(); }"
    )
    (tmp_path / "both.so").write_bytes(shared_object([first, asked]))
    assert ctypes.CDLL(str(tmp_path / "both.so")).answer() == 1


def test_missing_library_is_named(tmp_path: Path) -> None:
    first = _library(tmp_path, "first", "int which(void) { return 1; }")
    (tmp_path / "both.so").write_bytes(shared_object([first, tmp_path / "no.so"]))
    with pytest.raises(OSError, match="no.so: cannot open shared object file"):
        ctypes.CDLL(str(tmp_path / "both.so"))


def test_file_has_no_executable_stack(tmp_path: Path) -> None:
    first = _library(tmp_path, "first", "int which(void) { return 1; }")
    (tmp_path / "alone.so").write_bytes(shared_object([first]))
    said = subprocess.run(
        [*("readelf", "-lW"), "alone.so"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    [stack] = [line for line in said.splitlines() if "GNU_STACK" in line]
    assert " RW " in stack
