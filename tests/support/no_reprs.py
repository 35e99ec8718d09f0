"""A plugin of mypy: texts show no value whose `str` is only a repr, such as `Point(version=2)`.

It looks at every f-string and `str.format`, and at what `click.echo` and `click.secho` print. A
value is refused if `str` of its type is Python's own: that of a dataclass, a NamedTuple, an Enum, a
list (but of numbers, such as a shape), a tuple, a dict or a set, bytes, or an object of ours
without a `__str__`. `!r` is for texts and numbers, and for errors that nobody foresaw. Texts in our
own tests are not for users.
"""

from collections.abc import Callable, Iterable

from mypy.nodes import CallExpr, MemberExpr, StrExpr
from mypy.plugin import FunctionContext, MethodContext, Plugin
from mypy.types import (
    AnyType,
    Instance,
    LiteralType,
    NoneType,
    TupleType,
    Type,
    TypeVarType,
    UnionType,
    get_proper_type,
)

__all__ = ["plugin"]

_FORMATTING = {"__format__", "__str__"}
_OURS = ("lambda_serving", "support")
_REPRS = {
    "builtins.bytearray",
    "builtins.bytes",
    "builtins.dict",
    "builtins.frozenset",
    "builtins.list",
    "builtins.memoryview",
    "builtins.set",
    "builtins.tuple",
    "collections.deque",
    "enum.Enum",
    "typing.AbstractSet",
    "typing.Collection",
    "typing.Iterable",
    "typing.Iterator",
    "typing.Mapping",
    "typing.Sequence",
}
"""Classes whose `str` is a repr, and those behind which one of them is."""
_QUOTED = {
    "builtins.BaseException",
    "builtins.float",
    "builtins.int",
    "builtins.str",
    "pathlib.PurePath",
}
_TESTS = "tests/"
"""How paths of our own tests begin."""


class _NoReprs(Plugin):
    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return _formatted if fullname == "builtins.str.format" else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        return _printed if fullname in {"click.termui.secho", "click.utils.echo"} else None


def _formatted(context: MethodContext) -> Type:
    call = context.context
    assert isinstance(call, CallExpr)
    template = call.callee.expr if isinstance(call.callee, MemberExpr) else None
    is_quoted = isinstance(template, StrExpr) and "!r" in template.value
    for argument in (each for group in context.arg_types for each in group):
        _check(argument, context, is_quoted=is_quoted)
    return context.default_return_type


def _printed(context: FunctionContext) -> Type:
    for argument in context.arg_types[0]:
        _check(argument, context, is_quoted=False)
    return context.default_return_type


def _check(shown: Type, context: MethodContext | FunctionContext, *, is_quoted: bool) -> None:
    if context.api.path.startswith(_TESTS):
        return
    for kind in _kinds(shown):
        if not (_is_quotable(kind) if is_quoted else _has_text(kind)):
            context.api.fail(
                f"A text shows the repr of {kind.type.fullname}. Give it a __str__ that is a"
                " sentence, or say what it means",
                context.context,
            )


def _kinds(shown: Type) -> Iterable[Instance]:
    """The classes that a value may have, as far as they are known."""
    match get_proper_type(shown):
        case UnionType(items=items):
            return [kind for item in items for kind in _kinds(item)]
        case TupleType(partial_fallback=kind) | LiteralType(fallback=kind) | (Instance() as kind):
            return [kind]
        case TypeVarType(upper_bound=bound):
            return _kinds(bound)
        case AnyType() | NoneType() | _:
            return []


def _has_text(kind: Instance) -> bool:
    """Whether the first class with a `__str__`, in the order of resolution, wrote one for people.

    Anything may be behind `object` and behind a protocol, and stubs leave out the `__str__` of
    many classes: of those without one, only ours are refused.
    """
    if kind.type.fullname in _REPRS:
        return kind.type.fullname == "builtins.list" and _is_number(kind.args[0])
    if kind.type.is_protocol or kind.type.fullname == "builtins.object":
        return True
    for base in kind.type.mro[:-1]:  # the last is object
        if base.fullname in _REPRS:
            return False
        if base.fullname == "builtins.BaseException" or _FORMATTING & base.names.keys():
            return True
    return not ("dataclass" in kind.type.metadata or kind.type.module_name.startswith(_OURS))


def _is_number(kind: Type) -> bool:
    proper = get_proper_type(kind)
    return isinstance(proper, AnyType) or (
        isinstance(proper, Instance) and proper.type.fullname == "builtins.int"
    )


def _is_quotable(kind: Instance) -> bool:
    return any(base.fullname in _QUOTED for base in kind.type.mro)


def plugin(_: str) -> type[Plugin]:
    """What mypy calls with its version."""
    return _NoReprs
