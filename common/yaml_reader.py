"""The one place where YAML that others wrote is read: manifests, hooks, configuration, a sim's script, our own state.

What is read is bounded before anything is made of it: bytes, then, as libyaml's parser tells its events, nesting, and
nodes with every alias counted as often as it is used. Whatever a file holds, the outcome is a value or a `Fault` with
its line. What scalars mean is in yaml_scalars.py.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.yaml_scalars import TAG, NoValue, tagged, untagged

MAX_BYTES = 4 << 20
"""Of one file. An API server takes 3 MiB in one request."""
MAX_NODES = 250_000
"""Keys, values, lists and mappings in one file: some 8,000 VMs, read in a few seconds."""
MAX_DEPTH = 100
MERGE = "<<"
PLAIN = "?"
"""The tag of what has none and no quotes: its text tells what it is (YAML 1.2, 3.3.2)."""

FieldPath = tuple[str | int, ...]


class Fault(Exception):
    """A file, or a text, that means nothing here. `line` counts from 1, 0 where none is to blame; `path` names the
    field where there is one. No message quotes a value: it may be a password."""

    def __init__(self, message: str, line: int = 0, path: FieldPath = ()) -> None:
        super().__init__(message)
        self.message, self.line, self.path = message, line, path

    def __str__(self) -> str:
        place = ", ".join(part for part in (f"line {self.line}" if self.line else "", field_path(self.path)) if part)
        return f"{place}: {self.message}" if place else self.message


def field_path(path: FieldPath) -> str:
    """`spec.lifecycle.preStop[0].exec.command`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def read_text(file: Path, *, only_regular: bool = False) -> str:
    """The text of a file of at most MAX_BYTES. `only_regular` is for files that no person named: a FIFO would be waited
    for without end; to a command, a shell's `<(...)` is as good as a file.

    Raises:
        Fault: it cannot be read, is too large or is not UTF-8.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (os.O_NONBLOCK if only_regular else 0))
        with open(handle, "rb") as opened:  # noqa: PTH123 - a file that is open already
            if only_regular and not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Fault("it is no regular file")
            data = opened.read(MAX_BYTES + 1) or b""  # None: there is nothing yet, as in files of the kernel's
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise Fault(getattr(error, "strerror", None) or str(error)) from error
    return _decoded(data)


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Fault(f"it has more than {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Fault(f"byte {data[error.start]:#x} is not UTF-8", line) from None


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its nodes for the places of fields, and what it means."""

    node: yaml.Node

    @property
    def line(self) -> int:
        return _line(self.node)

    def value(self) -> Any:
        """The document as JSON has it: each key is text.

        Raises:
            Fault: a key is there twice or is no text, a tag is unknown, or a value is not what its tag says.
        """
        return _value(self.node, ())


def documents(text: str) -> Iterator[Document]:
    """The documents of a text, one after the other.

    Raises:
        Fault: from here on it is not YAML, or it passes one of the bounds.
    """
    if len(text) > MAX_BYTES:
        raise Fault(f"it has more than {MAX_BYTES >> 20} MiB")
    with _faults(text):
        composer = _Composer(text)
        while (node := composer.next()) is not None:
            yield Document(node)


def load(text: str, *, as_written: bool = False) -> Any:
    """What the one document of a text means; None of an empty one. `as_written` leaves each scalar a text: 007, yes.

    Raises:
        Fault: it is not one document of YAML, or passes one of the bounds.
    """
    found = documents(text)
    first = next(found, None)
    if first is None:
        return None
    value = _value(first.node, (), as_written=as_written)
    if (second := next(found, None)) is not None:
        raise Fault("a second document begins here; one is wanted", second.line)
    return value


def load_file(file: Path, *, as_written: bool = False) -> Any:
    """What the one document of a file means, see `read_text` and `load`."""
    return load(read_text(file), as_written=as_written)


@contextmanager
def _faults(text: str) -> Iterator[None]:
    """The parser's errors, as Fault."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Fault(f"not YAML: {error.problem}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise Fault(f"not YAML: {error.reason}", line) from None
    except yaml.YAMLError as error:
        raise Fault(f"not YAML: {type(error).__name__}", 1) from error


@dataclass(slots=True)
class _Anchored:
    """What an anchor names. An alias is as many nodes, and as deep, as what it stands for."""

    node: yaml.Node | None = None
    nodes: int = 0
    height: int = 0


@dataclass(slots=True)
class _Composer:
    """Nodes from libyaml's events. PyYAML's own composer recurses in C without a bound, and crashes the process."""

    text: str
    _events: Any = None
    _anchors: dict[str, _Anchored] = field(default_factory=dict)
    _nodes: int = 0
    _deepest: int = 0

    def __post_init__(self) -> None:
        self._events = yaml.CSafeLoader(self.text)  # only its events are asked for
        self._events.get_event()  # the stream begins

    def next(self) -> yaml.Node | None:
        """The next document's root, None at the end."""
        if not isinstance(self._events.get_event(), yaml.DocumentStartEvent):
            return None
        self._anchors.clear()
        node = self._compose(self._events.get_event(), 1)
        self._events.get_event()  # the document ends
        return node

    def _compose(self, event: Any, depth: int) -> yaml.Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event, depth)
        self._count(event, 1, depth)
        anchored = _Anchored()
        if event.anchor is not None:
            self._anchors[event.anchor] = anchored
        before, above, self._deepest = self._nodes, self._deepest, depth
        node = self._node(event, depth)
        anchored.node, anchored.nodes, anchored.height = node, self._nodes - before + 1, self._deepest - depth
        self._deepest = max(above, self._deepest)
        return node

    def _node(self, event: Any, depth: int) -> yaml.Node:
        begin: Any = event.start_mark
        if isinstance(event, yaml.ScalarEvent):
            untold = PLAIN if event.implicit[0] else f"{TAG}str"
            return yaml.ScalarNode(untold if event.tag in {None, "!"} else str(event.tag), event.value, begin)
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._compose(inner, depth + 1) for inner in self._until(yaml.SequenceEndEvent)]
            return yaml.SequenceNode(event.tag or PLAIN, items, begin)
        pairs = [
            (self._compose(key, depth + 1), self._compose(self._events.get_event(), depth + 1))
            for key in self._until(yaml.MappingEndEvent)
        ]
        return yaml.MappingNode(event.tag or PLAIN, pairs, begin)

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := self._events.get_event(), end):
            yield event

    def _aliased(self, event: Any, depth: int) -> yaml.Node:
        line, anchored = event.start_mark.line + 1, self._anchors.get(event.anchor)
        if anchored is None:
            raise Fault("not YAML: an alias to an anchor that is not there", line)
        if anchored.node is None:
            raise Fault("an alias stands in what it is an alias of", line)
        self._count(event, anchored.nodes, depth + anchored.height)
        self._deepest = max(self._deepest, depth + anchored.height)
        return anchored.node

    def _count(self, event: Any, nodes: int, depth: int) -> None:
        self._nodes += nodes
        if depth > MAX_DEPTH:
            raise Fault(f"nested more than {MAX_DEPTH} deep", event.start_mark.line + 1)
        if self._nodes > MAX_NODES:
            raise Fault(
                f"more than {MAX_NODES} keys and values, with all that aliases repeat", event.start_mark.line + 1
            )


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _value(node: yaml.Node, path: FieldPath, *, as_written: bool = False) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value if as_written else _scalar(node, path)
    kind = "seq" if isinstance(node, yaml.SequenceNode) else "map"
    if node.tag not in {PLAIN, "!", f"{TAG}{kind}"}:
        raise Fault(f"not a value: its tag is not !!{kind}", _line(node), path)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, place), as_written=as_written) for place, item in enumerate(node.value)]
    return _mapping(node, path, as_written=as_written)


def _scalar(node: yaml.ScalarNode, path: FieldPath) -> Any:
    try:
        return untagged(node.value) if node.tag == PLAIN else tagged(node.tag, node.value)
    except NoValue as error:
        raise Fault(f"not a value: {error}", _line(node), path) from None


def _mapping(node: yaml.Node, path: FieldPath, *, as_written: bool) -> dict[str, Any]:
    own, merged = dict[str, Any](), dict[str, Any]()
    seen = set[str]()
    for key_node, value_node in node.value:
        key = _key(key_node, path)
        if key in seen:
            raise Fault(f"{key!r} is written twice", _line(key_node), (*path, key))
        seen.add(key)
        value = _value(value_node, (*path, key), as_written=as_written)
        if key == MERGE and key_node.tag == PLAIN:
            merged = _merged(value, value_node, (*path, key))
        else:
            own[key] = value
    return merged | own


def _key(node: yaml.Node, path: FieldPath) -> str:
    """JSON's keys are texts. `1.10` stays as it is written, where kubectl makes 1.1 of it."""
    if not isinstance(node, yaml.ScalarNode):
        raise Fault("a list or a mapping is no key", _line(node), path)
    value = _scalar(node, path)
    if value is None:
        raise Fault("a key is missing", _line(node), path)
    return str(value) if type(value) is int else str(value).lower() if isinstance(value, bool) else str(node.value)


def _merged(value: Any, node: yaml.Node, path: FieldPath) -> dict[str, Any]:
    """What `<<` adds: a mapping, or several, of which the first has the last word."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise Fault("only mappings can be merged", _line(node), path)
    return {key: entry for part in reversed(parts) for key, entry in part.items()}
