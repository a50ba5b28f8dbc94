"""Text that others chose, made fit to show: by guests, hypervisors and manifests, and by pydantic.

Who names a VM, or writes a hook's output, decides what the text is, not what a terminal, a table or an Event does with
it. All of them show it by `clean`. `to_json` and `to_yaml` keep it as it is, for programs, and write what is not to be
seen as the escapes that JSON and YAML have; logs are JSON in ASCII.
"""

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import yaml

from common.yaml_scalars import TAG, is_text

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def clean(text: str) -> str:
    """`text` on one line, with all that is not to be seen as its escape: control characters (C0, DEL, C1), line breaks,
    marks that turn the direction of writing, and whatever else has no look of its own."""
    return text if text.isprintable() else "".join(c if _is_visible(c) else _escape(c) for c in text)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of them, and how many there are beside: `a, b, c and 4 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def is_visible(text: str) -> bool:
    """Whether `clean` leaves it as it is."""
    return text.isprintable() or all(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # spaces of all widths


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def encodable(text: str) -> str:
    """As UTF-8 can carry it: half a surrogate pair, as JSON may hold it, is written as its escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def to_json(data: Any, indent: int | None = None) -> str:
    """JSON that says the same and shows what it says."""
    written = json.dumps(data, indent=indent, ensure_ascii=False)
    return "".join(c if c == "\n" or _is_visible(c) else json.dumps(c)[1:-1] for c in written)


class Dumper(yaml.SafeDumper):
    """YAML that says the same and shows what it says."""

    def write_double_quoted(self, text: str, split: bool = True) -> None:
        """PyYAML escapes all but ASCII, or only what no terminal acts upon; there is nothing between."""
        usual = self.allow_unicode
        self.allow_unicode = usual and is_visible(text.replace("\n", ""))
        super().write_double_quoted(text, split)
        self.allow_unicode = usual


def represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """In quotes where it holds what is not to be seen, for only there YAML has escapes, and where a reader of YAML 1.2,
    such as ours, would take it for a number."""
    plain = is_text(value) and is_visible(value.replace("\n", "").replace("\t", ""))
    return dumper.represent_scalar(f"{TAG}str", value, style=None if plain else '"')


Dumper.add_representer(str, represent_text)


def to_yaml(data: Any) -> str:
    """YAML that says the same and shows what it says."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
