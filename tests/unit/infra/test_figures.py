"""Figures that docs and templates both have are the same."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_RELEASE, _MODEL, _ROOT_TEMPLATE = "infra/release.yaml", "infra/model.yaml", "template.yaml"


@pytest.mark.parametrize(
    ("page", "told", "template", "written"),
    [
        ("operations", r"in (\d+) tries", _RELEASE, r"maxReceiveCount: (\d+)"),
        ("operations", r"of a (\d+) MB function", _RELEASE, r"MemorySize: (\d+)"),
        ("deploy", r"name has (\d+) characters at most", _RELEASE, r"MaxLength: (\d+)"),
        (
            "deploy",
            r"name has (\d+) characters at most",
            _MODEL,
            r"System:(?:.*\n)+?.*MaxLength: (\d+)",
        ),
        ("deploy", r"`Timeout` \| (\d+)", _ROOT_TEMPLATE, r" Timeout:(?:.*\n)+?.*Default: (\d+)"),
        (
            "deploy",
            r"`MemorySize` \| (\d+)",
            _ROOT_TEMPLATE,
            r" MemorySize:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`BuildMemorySize` \| (\d+)",
            _ROOT_TEMPLATE,
            r"BuildMemorySize:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`BuildEphemeralStorage` \| (\d+)",
            _ROOT_TEMPLATE,
            r"BuildEphemeralStorage:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`LogRetentionDays` \| (\d+)",
            _ROOT_TEMPLATE,
            r"LogRetentionDays:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`ReplacedObjectDays` \| (\d+)",
            _ROOT_TEMPLATE,
            r"ReplacedObjectDays:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`ThrottlingRate`, `ThrottlingBurst` \| (\d+)",
            _ROOT_TEMPLATE,
            r"ThrottlingRate:(?:.*\n)+?.*Default: (\d+)",
        ),
        (
            "deploy",
            r"`LatencyAlarmMilliseconds`, `AlarmTopic` \| (\d+)",
            _ROOT_TEMPLATE,
            r"LatencyAlarmMilliseconds:(?:.*\n)+?.*Default: (\d+)",
        ),
    ],
)
def test_page_tells_what_the_template_says(
    page: str, told: str, template: str, written: str
) -> None:
    in_page = re.findall(told, (_ROOT / f"docs/{page}.md").read_text())
    found = re.search(written, (_ROOT / template).read_text())
    assert found
    assert in_page
    assert set(in_page) == {found[1]}
