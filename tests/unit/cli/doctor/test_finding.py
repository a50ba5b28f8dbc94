import json

from cli.doctor.finding import Finding, Level, exit_code
from cli.errors import ExitCode


def finding(level: Level) -> Finding:
    return Finding("PAUSED", level, "It is paused.", "Why.", "who", ("resume it",), "lab", "web")


def test_a_problem_ends_with_7_and_warnings_with_0() -> None:
    assert exit_code([finding(Level.WARNING), finding(Level.PROBLEM)]).value == 7
    assert exit_code([finding(Level.WARNING)]) is ExitCode.WANTED


def test_a_finding_is_plain_data() -> None:
    told = json.loads(json.dumps(finding(Level.WARNING).as_dict()))
    assert (told["check"], told["level"], told["commands"]) == ("PAUSED", "WARNING", ["resume it"])
