"""What a scalar of YAML means: as kubectl reads it, but `yes`, `no`, `on`, `off`, `y` and `n` stay words.

kubectl reads by sigs.k8s.io/yaml, and that by go.yaml.in/yaml/v2 (`resolve.go`; Kubernetes 1.35 has v1.6.0 and v2.4.3):
a date is text, and so is 12:30:00; 010 is octal; 1e3 is a number; what 64 bits do not hold becomes a float. It takes
the words for booleans, as YAML 1.1 does, and an API server then refuses `powerState: On`. The reasons are in
docs/adr/0020-yaml-is-read-as-kubectl-reads-it-within-bounds.md.
"""

import math
import re
from collections.abc import Callable
from typing import Any

TAG = "tag:yaml.org,2002:"
NULLS = {"", "~", "null", "Null", "NULL"}
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NOT_IN_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)", re.A)
FLOAT = re.compile(r"[-+]?([.][0-9]+|[0-9]+([.][0-9]*)?)([eE][-+]?[0-9]+)?", re.A)
LEAST, MOST = -(2**63), 2**64 - 1
LONGEST = 400
"""Characters of a number; the longest float without an exponent has 309 before its point."""


class NoValue(ValueError):
    """The text is no value of its tag; the message says why."""


def untagged(text: str) -> Any:
    """The value of a scalar without quotes and without a tag.

    Raises:
        NoValue: a number that JSON does not have.
    """
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if NOT_IN_JSON.fullmatch(text):
        raise NoValue(f"{text} is no number that JSON has; write it with quotes if it is a word")
    number = _number(text)
    return text if number is None else number


def is_text(text: str) -> bool:
    """Whether it needs no quotes to be read as itself."""
    try:
        return isinstance(untagged(text), str)
    except NoValue:
        return False


def tagged(tag: str, text: str) -> Any:
    """The value of a scalar with a tag.

    Raises:
        NoValue: it is none, or the tag is not one of JSON's types.
    """
    read = _BY_TAG.get(tag.removeprefix(TAG)) if tag.startswith(TAG) else None
    if read is None:
        raise NoValue("its tag is none of !!str, !!int, !!float, !!bool and !!null")
    return read(text)


def _number(text: str) -> int | float | None:
    if text[:1] not in set("0123456789+-.") or len(text) > LONGEST:
        return None
    plain = text if text.startswith(".") else text.replace("_", "")
    if INTEGER.fullmatch(plain):
        number = _integer(plain)
        if LEAST <= number <= MOST:
            return number
    if not FLOAT.fullmatch(plain):
        return None
    value = float(plain)
    return None if math.isinf(value) else value


def _integer(plain: str) -> int:
    octal = re.fullmatch(r"([-+]?)0([0-7]+)", plain, re.A)
    return int(f"{octal[1]}0o{octal[2]}" if octal else plain, 0)


def _only(kind: type | tuple[type, ...], name: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = untagged(text)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise NoValue(f"is no {name}")
        return value

    return read


def _float(text: str) -> float:
    return float(_only((int, float), "number")(text))


_BY_TAG: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _only(int, "integer"),
    "float": _float,
    "bool": _only(bool, "boolean"),
    "null": _only(type(None), "null"),
}
