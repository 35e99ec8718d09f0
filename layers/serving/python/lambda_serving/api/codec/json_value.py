"""The types of JSON that was read."""

__all__ = ["Container", "Json"]

Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None
"""A JSON value; bytes of strings that are not UTF-8 become what `surrogateescape` makes of them."""

Container = list[Json] | dict[str, Json]
