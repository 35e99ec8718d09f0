"""mypy refuses texts that show a repr, by our plugin."""

import re
from pathlib import Path

from mypy import api

_PLUGIN = Path(__file__).parents[2] / "support/no_reprs.py"
_CODE = """
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

class Plain(NamedTuple):
    a: int

class Told(NamedTuple):
    a: int
    def __str__(self) -> str:
        return "told"

@dataclass
class Data:
    a: int

class Told2(Told):
    pass

class Kind(Enum):
    A = 1

class Word(StrEnum):
    A = "a"

class Number(IntEnum):
    A = 1

def show(
    plain: Plain, told: Told, data: Data, kind: Kind, word: Word, number: Number, text: str,
    many: Sequence[str], found: Mapping[str, int], some: list[str] | None, either: Data | str,
    shape: list[int], pair: tuple[int, str], path: Path, error: OSError, anything: Any,
    thing: object, told2: Told2,
) -> None:
    print(f"{told} {told2} {word} {number} {text!r} {path} {error} {anything} {thing} {len(many)}")
    print("{} {}".format(text, number))
    print(f"{shape} {error!r}")
    print(f"{plain}")  # shows a repr
    print(f"a {data} b")  # shows a repr
    print(f"{kind:>9}")  # shows a repr
    print(f"{many}")  # shows a repr
    print(f"{found}")  # shows a repr
    print(f"{some}")  # shows a repr
    print(f"{either}")  # shows a repr
    print(f"{pair}")  # shows a repr
    print(f"{told!r}")  # shows a repr
    print("{}".format(data))  # shows a repr
    print(f"{text.encode()!r}")  # shows a repr
"""


def test_texts_that_show_a_repr_are_refused(tmp_path: Path) -> None:
    code, settings = tmp_path / "code.py", tmp_path / "mypy.ini"
    code.write_text(_CODE)
    settings.write_text(f"[mypy]\nplugins = {_PLUGIN}\ncache_dir = {tmp_path}/cache\n")
    said, _, _ = api.run(["--config-file", str(settings), str(code)])
    refused = {int(line) for line in re.findall(r":(\d+): error: A text shows the repr", said)}
    wanted = {
        number
        for number, line in enumerate(_CODE.splitlines(), 1)
        if line.endswith("# shows a repr")
    }
    assert len(wanted) == 11
    assert refused == wanted, said
