"""Puts into the wheel what `lambda-serving init` writes, but lies outside of the package.

An editable install reads these files where they are (`lambda_serving.project.vendored`).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_FILES = Path("lambda_serving/project/files")


class _BuildWithFiles(build_py):
    def run(self) -> None:
        """Builds the package, and copies the files of the list `vendored.txt` into it."""
        super().run()
        if self.editable_mode:
            return
        listed = (Path("layers/serving/python") / _FILES / "vendored.txt").read_text()
        for pattern in listed.split():
            for path in filter(Path.is_file, sorted(Path().glob(pattern))):
                copied = Path(self.build_lib) / _FILES / "vendored" / path
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)


setup(cmdclass={"build_py": _BuildWithFiles})
