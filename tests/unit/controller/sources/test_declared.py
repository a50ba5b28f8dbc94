"""Which of several declarations counts; files and specs are named only as far as that matters."""

from pathlib import Path

from controller.source import Key
from controller.sources.declared import Origin, settle
from controller.sources.manifests import Manifest, Problem, Reading
from tests.unit.controller.builders import machine

WEB = Key("VirtualMachine", "default", "web")


def declared(file: str, spec: str = "", line: int = 1) -> Manifest:
    """The resource `web` in a file, whose spec is told from others by a word."""
    return Manifest(machine("On"), {"spec": spec}, Path(file), line)


def bad(file: str, *manifests: Manifest) -> Reading:
    return Reading(manifests, problems=(Problem(Path(file), 1, "", "not YAML"),))


def choice(
    *manifests: Manifest, before: Manifest | None = None, origin: tuple[str, str] | None = None, **broken: Reading
) -> tuple[Manifest | None, list[str]]:
    """The declaration of `web` that counts, and the messages about the others."""
    readings = {Path(name.replace("_", ".")): reading for name, reading in broken.items()}
    for manifest in manifests:
        known = readings.get(manifest.file, Reading())
        readings[manifest.file] = Reading((*known.manifests, manifest), known.problems)
    readings = dict(sorted(readings.items()))
    found = Origin(Path(origin[0]), lambda: origin[1]) if origin else None
    chosen, problems = settle(
        readings, {WEB: before} if before else {}, lambda _: found, lambda manifest: str(manifest.raw["spec"])
    )
    return chosen.get(WEB), [f"{problem.file}:{problem.line}: {problem.message}" for problem in problems]


def test_the_first_counts_where_nothing_is_known() -> None:
    first, second = declared("a", line=3), declared("b", line=7)
    message = "b:7: VirtualMachine default/web is declared already, in a:3; this one is ignored"
    assert choice(first, second) == (first, [message])


def test_the_file_that_was_in_effect_counts_whatever_else_there_is() -> None:
    old, new = declared("b", "edited"), declared("a")
    assert choice(old, new, origin=("b", "before"))[0] is old


def test_of_two_declarations_in_that_file_the_one_that_was_in_effect_counts() -> None:
    new, old = declared("b", "other"), declared("b", "same", line=9)
    assert choice(new, old, origin=("b", "same"))[0] is old


def test_where_it_has_moved_it_is_known_by_its_spec() -> None:
    new, moved = declared("a", "other"), declared("c", "same")
    assert choice(new, moved, origin=("b", "same"))[0] is moved


def test_where_it_is_gone_the_first_one_counts() -> None:
    first, second = declared("a", "other"), declared("c", "third")
    assert choice(first, second, origin=("b", "same"))[0] is first


def test_what_was_in_effect_stays_while_its_file_has_mistakes() -> None:
    kept, other = declared("b", "same"), declared("a", "other")
    chosen, messages = choice(other, before=kept, origin=("b", "same"), b=bad("b"))
    assert (chosen, len(messages)) == (kept, 1)


def test_a_good_document_of_a_file_with_mistakes_counts() -> None:
    kept, edited = declared("b", "same"), declared("b", "edited")
    assert choice(edited, before=kept, origin=("b", "same"), b=bad("b"))[0] is edited


def test_after_a_restart_nothing_counts_while_the_file_that_was_in_effect_has_mistakes() -> None:
    other = declared("a", "other")
    chosen, (message,) = choice(other, origin=("b", "same"), b=bad("b"))
    assert (chosen, "already, in b, which cannot be read now" in message) == (None, True)


def test_what_lies_in_a_directory_that_cannot_be_listed_stays() -> None:
    kept = declared("deep/b")
    assert choice(declared("a"), before=kept, origin=("deep/b", ""), deep=bad("deep"))[0] is kept
