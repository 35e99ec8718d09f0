"""Figures in the docs: each is on one page, and equal to that of the templates and the code."""

import re
from pathlib import Path

import pytest

from lambda_serving.config.server_flags import Settings
from support.template_rules import View

_ROOT = Path(__file__).parents[3]
_PAGES = {
    file.stem: file.read_text() for file in (*(_ROOT / "docs").glob("*.md"), _ROOT / "README.md")
}
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_CODE = "layers/serving/python/lambda_serving"
_BATCH, _GPU, _MODEL, _RELEASE = "infra/batch", "infra/gpu", "infra/model", "infra/release"
_WEEK, _MINUTE = 7 * 24 * 3600, 60


def _inside(name: str, key: str) -> str:
    """Of a value of one parameter."""
    return rf"\n  {name}:\n(?:    .*\n)*?    {key}: (\d+)"


def _number(text: str) -> int:
    return _NUMBERS.index(text.lower()) if text.lower() in _NUMBERS else int(text)


@pytest.mark.parametrize(
    ("page", "told", "unit", "file", "written"),
    [
        ("deploy", r"name has (\S+) characters", 1, _RELEASE, _inside("System", "MaxLength")),
        ("deploy", r"name has (\S+) characters", 1, _MODEL, _inside("System", "MaxLength")),
        ("deploy", r"(\d+) at most; a model has", 1, _MODEL, _inside("Timeout", "MaxValue")),
        ("deploy", r"(\d+) at most; a model has", 1, "template", _inside("Timeout", "MaxValue")),
        ("deploy", r"queue for (\S+) weeks", _WEEK, _RELEASE, r"RetentionPeriod: (\d+)"),
        ("deploy", r"API waits for (\S+) s", 1000, _MODEL, r"TimeoutInMillis: (\d+)"),
        ("deploy", r"API waits for (\S+) s", 1000, _GPU, r"TimeoutInMillis: (\d+)"),
        (
            "deploy",
            r"or an answer has (\S+) MiB",
            1,
            "function/event_call",
            r"\nMAX_ANSWER = (\d+) \*",
        ),
        ("operations", r" in (\S+) tries", 1, _RELEASE, r"maxReceiveCount: (\d+)"),
        ("operations", r"of a (\S+) MB function", 1, _RELEASE, r"\n      MemorySize: (\d+)"),
        (
            "operations",
            r"40, ... (\S+) s",
            1,
            "release/deciding/next_step_of_version",
            r"LONGEST_PAUSE_SECONDS = (\d+)",
        ),
        ("operations", r"10, ... (\S+) s", 1, "release/handler", r"_BACKOFF_SECONDS = .*\b(\d+)\)"),
        (
            "security",
            r"ends after (\S+) min",
            _MINUTE,
            "release/aws/clients",
            r"_SESSION_SECONDS = (\d+)",
        ),
        ("batch", r"an attempt\s+of (\w+);", 1, _BATCH, r"Attempts: (\d+)"),
        ("batch", r"and (\S+) GB a shard", 1, _BATCH, _inside("Disk", "MaxValue")),
        ("container", r"\(1 to (\S+) servers", 1, _GPU, _inside("Tasks", "MaxValue")),
        ("container", r"with (\S+) GB of disk", 1, _GPU, r"VolumeSize: (\d+)"),
        ("container", r"after (\S+) the server", 1000, _GPU, r"rest_api_timeout_in_ms=(\d+)"),
        ("container", r"ready for (\S+) minutes", 1, _GPU, r"EvaluationPeriods: (\d+)"),
    ],
)
def test_page_tells_what_templates_and_code_say(
    page: str, told: str, unit: int, file: str, written: str
) -> None:
    """`unit` is what the page counts in."""
    [in_page] = re.findall(told, _PAGES[page])
    found = _ROOT / f"{file}.yaml", _ROOT / _CODE / f"{file}.py"
    [text] = [each.read_text() for each in found if each.exists()]
    assert {int(each) for each in re.findall(written, text)} == {_number(in_page) * unit}


_HOMES = [
    ("deploy", r"\bsix routes|\b300 (routes|integrations|rules)"),
    ("deploy", r"\b(4\.5|3\.4) Mi?B|\b23 characters|`Timeout`.*\b29\b|\btwo weeks"),
    ("deploy", r"`(Memory|Build\w+Size|BuildEphemeralStorage|\w+Days)`[^|]*\| \d+"),
    ("operations", r"\d, \d+, \.\.\. \d+ seconds|\b\d+ tries\b|\bMB function\b"),
    ("benchmarks", r"\$0\.01|\b0\.01\d US dollars"),
    ("benchmarks", r"\d rows/s \||\| \d+ requests/s \||\d ms \| \d[\d.,]* ms \| [\d.]+x \| \d"),
]
"""The page of each kind of figure: others lead there, as two of a kind soon differ."""


@pytest.mark.parametrize(("home", "figure"), _HOMES)
def test_figure_is_reported_once(home: str, figure: str) -> None:
    """The list of beliefs about AWS is an exception: it has AWS's answers."""
    telling = {name for name, text in _PAGES.items() if re.search(figure, text)}
    assert telling - {"aws-assumptions"} == {home}


def _parameters() -> dict[str, str]:
    text = (_ROOT / "template.yaml").read_text().partition("\nRules:")[0]
    found = re.findall(r"\n  (\w+):\n(?:    .*\n)*?    Default: ([^#\n]*)", text)
    return {name: default.strip().strip('"') for name, default in found}


def _defaults() -> dict[str, str]:
    """What the page's table says, by parameter."""
    told = dict[str, str]()
    for names, defaults in re.findall(
        r"^\| (`[A-Z][^|]*) \| ([^|]*) \|", _PAGES["deploy"], re.MULTILINE
    ):
        each = re.findall(r"`(\w+)`", names)
        values = defaults.split(", ") if len(each) > 1 else [defaults]
        told |= dict(zip(each, (value.strip("`") for value in values), strict=True))
    return told


def test_every_parameter_is_in_the_table_with_its_default() -> None:
    templates, told = _parameters(), _defaults()
    assert told.pop("BaseImage") == "Python 3.11 on Debian bookworm"
    assert templates.pop("BaseImage").endswith("python:3.11-slim-bookworm")
    told |= dict.fromkeys(("JwtIssuer", "JwtAudience"), "none")  # told at `Access`
    assert told == {name: default or "none" for name, default in templates.items()}


def test_counts_are_those_of_the_templates(view: View) -> None:
    def count(kind: str, *stacks: str) -> int:
        resources = (each for stack in stacks for each in view["stacks"][stack].values())
        return sum(each["Type"] == kind for each in resources)

    page = _PAGES["deploy"]
    [alarms] = re.findall(r"\| (\w+) alarms, one more for each model with `Shifting`", page)
    assert _number(alarms) == count("AWS::CloudWatch::Alarm", "System", "System/Release")
    [(routes, quota, models)] = re.findall(
        r"has (\w+) routes and one integration[^.]*\.\s+"
        r"The\s+API's quota of (\d+) routes is reached with (\d+) models",
        page,
    )
    assert _number(routes) == count("AWS::ApiGatewayV2::Route", "MLP") == int(quota) / int(models)
    assert count("AWS::ApiGatewayV2::Integration", "MLP") == 1


def test_alarms_ring_when_the_page_says(view: View) -> None:
    release, page = view["stacks"]["System/Release"], _PAGES["operations"]
    told = r"(\w+) runs of the build function failed within an hour: an order has (\w+)"
    [(failed, tries)] = re.findall(told, page)
    build = release["BuildErrors"]["Properties"]
    assert (build["Period"], build["Threshold"] + 1) == (3600, _number(failed))
    [retries] = (
        each["Properties"]["MaximumRetryAttempts"]
        for each in release.values()
        if each["Type"] == "AWS::Lambda::EventInvokeConfig"
    )
    assert retries + 1 == _number(tries)
    for name in ("ReleaseErrors", "ReleaseThrottles", "BuildThrottles"):
        [quarters] = re.findall(rf"`{name}`.*in (\w+) quarters of an hour in a row", page)
        alarm = release[name]["Properties"]
        assert (alarm["EvaluationPeriods"], alarm["Period"]) == (_number(quarters), 900)


def test_models_are_looked_at_as_often_as_the_page_says(full: View) -> None:
    assert "| a look an hour for each model" in _PAGES["operations"]
    rules = [
        each["Properties"]["ScheduleExpression"]
        for stack in full["stacks"].values()
        for each in stack.values()
        if each["Type"] == "AWS::Events::Rule" and "ScheduleExpression" in each["Properties"]
    ]
    assert set(rules) == {"rate(1 hour)"}


_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1, "minutes": _MINUTE, "MB": 10**6}
_LIMIT = re.compile(r"([\d,]+) ?(KiB|MiB|GiB|s|minutes|)\b")


def _limits() -> list[tuple[str, str, str]]:
    """Page, flag and what is told of its default: in the table of limits, or beside the flag."""
    table = re.findall(
        r"^\| [^|]* \| ([^|]*\d[^|]*) \| `--(\w+)` \|$", _PAGES["security"], re.MULTILINE
    )
    beside = [
        (page, before or after, told or told_after)
        for page, text in _PAGES.items()
        for told, before, after, told_after in re.findall(
            r"(\d[\d,]*(?: \w+)?) \(`--(\w+)`\)|`--(\w+)` \((\d[\d,]*(?: \w+)?)\)", text
        )
    ]
    return [("security", flag, told) for told, flag in table] + beside


@pytest.mark.parametrize(("page", "flag", "told"), _limits())
def test_limit_is_the_default_of_its_flag(page: str, flag: str, told: str) -> None:
    default = getattr(Settings(model_name="m"), flag)
    found = _LIMIT.search(told)
    assert found, page
    number = int(found[1].replace(",", "")) * _UNITS[found[2]]
    assert default in {number, number * 1000 if flag.endswith("_ms") else number}
