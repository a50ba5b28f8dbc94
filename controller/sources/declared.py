"""Which of several declarations of one resource counts: the one that is in effect, else the first. Pure.

A manifest in a file whose name sorts earlier takes nothing over: it could cut a VM that another file keeps on.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.source import Key, key_of
from controller.sources.manifests import Manifest, Problem, Reading


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the declaration that is in effect was read: its file, and what tells a digest of its spec, which only takes
    the work where several declarations might be it."""

    file: Path
    digest: Callable[[], str]


Origins = Callable[[Key], Origin | None]
"""Of a resource that was in effect before, also in an earlier process."""
Digest = Callable[[Manifest], str]


def settle(
    readings: Mapping[Path, Reading],
    before: Mapping[Key, Manifest],
    origin: Origins = lambda _: None,
    digest: Digest = lambda _: "",
) -> tuple[dict[Key, Manifest], list[Problem]]:
    """The declaration of each resource that counts, and the other ones as mistakes.

    What was declared `before` in a file that has mistakes now, or lies where nothing can be listed, stays as it was:
    neither is a deletion.
    """
    chosen, problems = _as_before_mistakes(before, readings), list[Problem]()
    for key, candidates in _by_key(readings.values()).items():
        known = origin(key)
        winner = _winner(candidates, chosen.get(key), known, digest)
        unread = None if winner else _unreadable(known, readings)
        if unread:
            problems += [_second(each, key, f"{unread}, which cannot be read now") for each in candidates]
            continue
        chosen[key] = winner or candidates[0]
        place = f"{chosen[key].file}:{chosen[key].line}"
        problems += [_second(each, key, place) for each in candidates if each is not chosen[key]]
    return chosen, problems


def _by_key(readings: Iterable[Reading]) -> dict[Key, list[Manifest]]:
    found = dict[Key, list[Manifest]]()
    for manifest in (manifest for reading in readings for manifest in reading.manifests):
        found.setdefault(key_of(manifest.resource), []).append(manifest)
    return found


def _winner(
    candidates: list[Manifest], kept: Manifest | None, origin: Origin | None, digest: Digest
) -> Manifest | None:
    """The declaration that is in effect, perhaps edited or moved to another file; None: none of them is known to be."""
    file = kept.file if kept else origin.file if origin else None
    own = [each for each in candidates if each.file == file]
    if kept and not own:
        return kept
    if len(own) == 1:
        return own[0]
    same = (each for each in own or candidates if origin and digest(each) == origin.digest())
    return next(same, own[0] if own else None)


def _unreadable(origin: Origin | None, readings: Mapping[Path, Reading]) -> Path | None:
    """The file of what was in effect, if it has mistakes or cannot be found because of some."""
    if origin is None:
        return None
    places = (origin.file, *origin.file.parents)
    return origin.file if any(readings[place].problems for place in places if place in readings) else None


def _second(manifest: Manifest, key: Key, place: str) -> Problem:
    message = f"{key} is declared already, in {place}; this one is ignored"
    return Problem(manifest.file, manifest.line, "metadata.name", message)


def _as_before_mistakes(before: Mapping[Key, Manifest], readings: Mapping[Path, Reading]) -> dict[Key, Manifest]:
    troubled = {path for path, reading in readings.items() if reading.problems}
    if not troubled:
        return {}
    return {
        key: manifest
        for key, manifest in before.items()
        if not troubled.isdisjoint((manifest.file, *manifest.file.parents))
    }
