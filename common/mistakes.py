"""What a validator found, for people: in the words of who writes YAML and flags (a list, a map, text), not Python's.

The types of findings are those of https://docs.pydantic.dev/latest/errors/validation_errors/; what is not here is told
in pydantic's own sentence.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

Context = Mapping[str, Any]

LIST, MAP, TEXT = "must be a list", "must be a map", "must be text"
NUMBER, WHOLE = "must be a number", "must be a whole number"
TRUTH, DATE = "must be true or false", "must be a date, as in 2030-12-31T23:59:59Z"


def _count(number: int, of: str) -> str:
    return f"{number} {of if number == 1 else f'{of}s'}"


def _at_least(of: str) -> Callable[[Context], str]:
    def told(context: Context) -> str:
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {_count(least, of)}"

    return told


def _at_most(of: str) -> Callable[[Context], str]:
    return lambda context: f"must have at most {_count(context['max_length'], of)}"


SENTENCES: Mapping[str, str | Callable[[Context], str]] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), MAP),
    **dict.fromkeys(("string_type", "string_sub_type", "bytes_type", "path_type"), TEXT),
    "string_unicode": "must be text in UTF-8",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), WHOLE),
    **dict.fromkeys(("int_parsing_size", "int_too_large"), "is too large a number"),
    **dict.fromkeys(("float_type", "float_parsing", "decimal_type", "decimal_parsing"), NUMBER),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), TRUTH),
    **dict.fromkeys(("datetime_type", "datetime_parsing", "datetime_from_date_parsing"), DATE),
    **dict.fromkeys(("time_delta_type", "time_delta_parsing"), "must be a duration, as in 90s"),
    "none_required": "must be empty",
    "invalid_key": "must have text as the names of its fields",
    "string_too_short": _at_least("character"),
    "string_too_long": _at_most("character"),
    "too_short": _at_least("item"),
    "too_long": _at_most("item"),
    "string_pattern_mismatch": lambda context: f"must match {context['pattern']}",
    **dict.fromkeys(("literal_error", "enum"), lambda context: f"must be {context['expected']}"),
}
COMPARED = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "less than": "less than",
}


def sentence(problem: ErrorDetails) -> str:
    """What is wrong, without the field. A sentence of a validator of ours stays as it is."""
    known = SENTENCES.get(problem["type"])
    if known is not None:
        return known if isinstance(known, str) else known(problem.get("ctx", {}))
    words = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    words = re.sub(r"^Input should be\b", "must be", words)
    return re.sub(
        r"^must be (greater|less) than( or equal to)?", lambda found: f"must be {COMPARED[found[0][8:]]}", words
    )
