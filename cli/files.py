"""Files that people write for the command line, read as what they should be."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cli.errors import usage
from common.mistakes import sentence
from common.yaml_reader import Fault, field_path, load_file

M = TypeVar("M", bound=BaseModel)


def read(file: Path, *, as_written: bool = False) -> Any:
    """What is in a file of YAML; `as_written`: its scalars as text.

    Raises:
        Failure: it cannot be read.
    """
    try:
        return load_file(file, as_written=as_written)
    except Fault as fault:
        raise usage(f"{file} cannot be read: {fault}") from None


def read_as(model: type[M], file: Path, otherwise: str) -> M:
    """The same as a model. `otherwise` is what the file is, if it is no `model`: "is no PowerPlan".

    Raises:
        Failure: it cannot be read, or is something else; says which field.
    """
    try:
        return model.model_validate(read(file) or {})
    except ValidationError as error:
        lines = [f"{field_path(each['loc'])}: {sentence(each)}" for each in error.errors()]
        raise usage(f"{file} {otherwise}.", *lines) from None
