"""The real grpcurl, built once and kept outside the tree."""

from pathlib import Path

from tests.rigs.go import install

VERSION = "v1.9.4"


def grpcurl() -> Path:
    """The path of grpcurl; the first call builds it (a minute or two).

    The version is part of the directory's name, so that a new one is built when it changes.
    """
    return install(f"grpcurl-{VERSION}", [f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"]) / "grpcurl"


if __name__ == "__main__":
    print(grpcurl())
