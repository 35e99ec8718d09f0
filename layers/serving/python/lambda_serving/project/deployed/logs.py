"""The logs of a deployed stack's functions, as events in the order of time."""

import heapq
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lambda_serving.errors import NotFound, Unavailable
from lambda_serving.project.deployed.stack import LOG_GROUP, Stack
from lambda_serving.release.aws.clients import translate_errors

__all__ = ["ACCESS", "Event", "Reader", "followed", "groups", "told"]

ACCESS = "_access"
_LATE_MS = 60_000
"""CloudWatch may make an event readable after a later one; this much is read again."""
_Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a log: when it was written, in milliseconds since 1970, and by what.

    `source` is the name of a model, or `_release`, `_build` or `_access`, which no model can have.
    """

    time: int
    source: str
    stream: str
    message: str
    id: str = ""

    @property
    def when(self) -> str:
        """The time in UTC, to the millisecond."""
        moment = datetime.fromtimestamp(self.time / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def groups(stack: Stack, source: str | None = None) -> dict[str, str]:
    """The log groups of a source, by default of all functions: the source of each, by group.

    Raises NotFound for a source that the stack lacks; the error lists those that it has.
    """
    owners = {group: model for model, each in stack.models.items() for group in each.all(LOG_GROUP)}
    found = {group: owners.get(group) or _source(group) for group in stack.all(LOG_GROUP)}
    chosen = {
        group: each
        for group, each in found.items()
        if each == source or (source is None and each != ACCESS)
    }
    if not chosen:
        raise NotFound(
            f"Stack {stack.name} has no logs of {source or 'functions'}. It has those of:"
            f" {', '.join(sorted(set(found.values()))) or 'nothing'}"
        )
    return chosen


def _source(group: str) -> str:
    """What a group that is no model's belongs to, by its name: `/aws/lambda/STACK_release`."""
    last = group.rpartition("/")[2]
    return f"_{last.rpartition('_')[2]}"


class Reader:
    """Reads groups of events again and again; each read has the events that are new since the last.

    `groups` are the sources by group, as `groups` finds them; reading begins at `start`, in
    milliseconds. Methods raise what `translate_errors` raises.
    """

    def __init__(self, client: Any, groups: Mapping[str, str], start: int) -> None:
        self._client = client
        self._groups = groups
        self._start = start
        self._seen = OrderedDict[str, int]()

    def read(self) -> Iterator[Event]:
        """The new events of all groups, by time."""
        newest = self._start
        for event in heapq.merge(*map(self._of, self._groups), key=lambda each: each.time):
            if event.id not in self._seen:
                newest = max(newest, event.time)
                self._remember(event, newest - _LATE_MS)
                yield event
        self._start = max(self._start, newest - _LATE_MS)

    def _remember(self, event: Event, start: int) -> None:
        """Notes an event that may be read again, and forgets those before `start`."""
        self._seen[event.id] = event.time
        while next(iter(self._seen.values())) < start:
            self._seen.popitem(last=False)

    def _of(self, group: str) -> Iterator[Event]:
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=self._start
        )
        with translate_errors(f"log group {group}"):
            for page in pages:
                for each in page["events"]:
                    yield Event(
                        each["timestamp"],
                        self._groups[group],
                        each.get("logStreamName", ""),
                        each["message"].rstrip("\n"),
                        each["eventId"],
                    )


def followed(
    reader: Reader, wait: Callable[[], object], tell: Callable[[str], object]
) -> Iterator[Event]:
    """The events of a reader as they come, without an end; `wait` pauses before each further look.

    `tell` gets why AWS did not answer, which the next look makes up for.
    """
    while True:
        try:
            yield from reader.read()
        except Unavailable as error:
            tell(str(error))
        wait()


def told(event: Event) -> Iterable[str]:
    """The lines that tell a person of an event; none for one that only carries metrics.

    Lambda writes JSON: what a program logged, and reports of its own, of type `platform.*`.
    """
    try:
        fields = json.loads(event.message)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return event.message.splitlines()
    if "_aws" in fields:  # metrics in the embedded format
        return ()
    kind = str(fields.get("type", ""))
    if kind.startswith("platform."):
        tell = _PLATFORM.get(kind)
        return tell(fields.get("record") or {}) if tell else ()
    return _logged(fields) or (event.message,)


def _logged(fields: _Fields) -> list[str]:
    """The lines of what a program logged, its traceback too; none for fields of another kind.

    Source: awslambdaric, lambda_runtime_log_utils.py; of an exception that nobody caught there is
    no message.
    """
    found = [fields.get("message"), _error(fields), fields.get("exception")]
    traced = fields.get("stackTrace")
    texts = [each if isinstance(each, str) else json.dumps(each) for each in found if each]
    texts += [
        each for each in (traced if isinstance(traced, list) else []) if isinstance(each, str)
    ]
    lines = [line for text in texts for line in text.splitlines()]
    if not lines:
        return []
    level = fields.get("level") or fields.get("log_level") or ""
    return [f"{level} {lines[0]}".strip(), *lines[1:]]


def _error(fields: _Fields) -> str:
    return ": ".join(str(fields[key]) for key in ("errorType", "errorMessage") if fields.get(key))


def _report(record: _Fields) -> list[str]:
    """What an invocation took, as Lambda bills it."""
    metrics = record.get("metrics") or {}
    parts = [
        f"{name} {metrics[key]:g} {unit}"
        for key, name, unit in (
            ("durationMs", "took", "ms"),
            ("billedDurationMs", "billed", "ms"),
            ("initDurationMs", "started in", "ms"),
            ("restoreDurationMs", "restored in", "ms"),
            ("maxMemoryUsedMB", "memory", "MB"),
        )
        if isinstance(metrics.get(key), int | float)
    ]
    status = record.get("status", "success")
    failed = [] if status == "success" else [f"{status}:", record.get("errorType", "")]
    return [" ".join(filter(None, ["REPORT", *map(str, failed), ", ".join(parts)]))]


def _fault(record: _Fields) -> list[str]:
    return [f"FAULT {json.dumps(record)}"]


_PLATFORM: Mapping[str, Callable[[_Fields], list[str]]] = {
    "platform.fault": _fault,
    "platform.report": _report,
}
