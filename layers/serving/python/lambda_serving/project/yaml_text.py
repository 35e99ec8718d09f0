"""A YAML document as text and as nodes: which lines belong to which entry.

Entries are the members of a mapping at the top of the document, such as the resources of a
template. Lines are inserted and removed whole, so that comments and formatting stay.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from lambda_serving.errors import FailedPrecondition, InvalidArgument

__all__ = ["Entry", "YamlText"]

_BREAKS = r"\n\r\x85\u2028\u2029"
_LINES = re.compile(rf"[^{_BREAKS}]*(?:\r\n|[{_BREAKS}])|[^{_BREAKS}]+")
"""Lines as YAML counts them."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Entry:
    """A member of a mapping: key and value, and the key's line, from 1, and column, from 0."""

    key: str
    value: yaml.Node
    line: int
    column: int

    @property
    def plain(self) -> Any:
        """What the entry says, without where it says it."""
        return self.key, _plain(self.value)

    def scalar(self, *path: str) -> yaml.ScalarNode | None:
        """The scalar below these keys, if there is one."""
        node: Any = self.value
        for key in path:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            node = next((value for name, value in pairs if name.value == key), None)
        return node if isinstance(node, yaml.ScalarNode) else None


class YamlText:
    """Raises InvalidArgument if the text is not one YAML mapping; `name` is that of the file."""

    def __init__(self, text: str, name: str = "template.yaml") -> None:
        self._name = name
        self._lines: list[str] = _LINES.findall(text)
        try:
            root = _LOADER(text).get_single_node()
        except (yaml.YAMLError, RecursionError) as error:
            raise InvalidArgument(f"{name} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(root, yaml.MappingNode):
            raise InvalidArgument(f"{name} is not a template: it holds no sections")
        self.root = root

    def entries(self, section: str) -> list[Entry]:
        """The members of a section; none if there is no such section.

        Raises InvalidArgument if the section is not a mapping, or has a key twice.
        """
        found = [value for key, value in self.root.value if key.value == section]
        if not found:
            return []
        [node] = found if len(found) == 1 else [None]
        if not isinstance(node, yaml.MappingNode):
            raise InvalidArgument(f"{self._name}: {section} must be there once, as a mapping")
        made = [
            Entry(str(key.value), value, key.start_mark.line + 1, key.start_mark.column)
            for key, value in node.value
        ]
        for number, each in enumerate(made):
            if each.key in {other.key for other in made[:number]}:
                raise InvalidArgument(f"{self._name}, line {each.line}: {each.key} is there twice")
        return made

    def others(self, *sections: str) -> Any:
        """What all other sections say."""
        return [
            (_plain(key), _plain(value))
            for key, value in self.root.value
            if key.value not in sections
        ]

    def with_text(self, section: str, after: Sequence[Entry], text: str) -> str:
        """The document with lines more, after an entry of a section, as far to the right as it.

        Without an entry, the section is new, and is the last one.
        """
        if after:
            self._check_block_style(section)
            column, (_, end) = after[0].column, self._lines_of(after[0])
            if after[0].key == self.entries(section)[-1].key:
                end = self._after_comments(end, column)
        else:
            column, end = 0, len(self._lines)
            text = f"\n{section}:\n{textwrap.indent(text, '  ')}"
        made = textwrap.indent(text, " " * column).replace("\n", self._newline)
        before = "".join(self._lines[:end])
        if before and not before.endswith("\n"):
            before += self._newline
        return before + made + "".join(self._lines[end:])

    def without(self, section: str, entry: Entry) -> str:
        """The document without the lines of an entry, and of comments directly above it."""
        self._check_block_style(section)
        start, end = self._lines_of(entry)
        while start and self._is_comment(start - 1, entry.column):
            start -= 1
        if start and self._is_blank(start - 1) and (end == len(self._lines) or self._is_blank(end)):
            start -= 1
        return "".join(self._lines[:start] + self._lines[end:])

    def _check_block_style(self, section: str) -> None:
        [node] = (value for key, value in self.root.value if key.value == section)
        if node.flow_style:
            raise FailedPrecondition(
                f"{self._name}, line {node.start_mark.line + 1}: {section} is written in braces,"
                " which only a person can edit. Write a line for each entry"
            )

    def _lines_of(self, entry: Entry) -> tuple[int, int]:
        """The first line of an entry, counted from 0, and the line after the last one."""
        start = end = entry.line - 1
        for number in range(start + 1, len(self._lines)):
            if self._is_blank(number):
                continue
            if not self._is_inside(number, entry.column):
                break
            end = number
        return start, end + 1

    def _after_comments(self, end: int, column: int) -> int:
        """The line after the comments that close a section."""
        for number in range(end, len(self._lines)):
            if self._is_comment(number, column):
                end = number + 1
            elif not self._is_blank(number):
                break
        return end

    def _is_inside(self, number: int, column: int) -> bool:
        """Whether a line is further right, or an item of a sequence as far right as its key."""
        line = self._lines[number]
        indent = len(line) - len(line.lstrip(" "))
        is_item = line[indent : indent + 2].rstrip() == "-"
        return indent > column or (indent == column and is_item)

    def _is_blank(self, number: int) -> bool:
        return not self._lines[number].strip()

    def _is_comment(self, number: int, column: int) -> bool:
        return self._lines[number].startswith(" " * column + "#")

    @cached_property
    def _newline(self) -> str:
        return "\r\n" if any(line.endswith("\r\n") for line in self._lines) else "\n"


def _plain(node: yaml.Node) -> Any:
    """Tags and values, of the nodes below as well."""
    match node:
        case yaml.MappingNode(value=pairs):
            return node.tag, [(_plain(key), _plain(value)) for key, value in pairs]
        case yaml.SequenceNode(value=items):
            return node.tag, [_plain(each) for each in items]
    return node.tag, node.value
