"""A cluster's certificate authority, and what it signed for its nodes."""

import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """A node's: the address it is for, the file with it and its key, and its SHA-256 as PVE shows it."""

    host: str
    file: str
    fingerprint: str


def certify(nodes: Sequence[str], ca: Path) -> dict[str, Certificate]:
    """A loopback address and a certificate for each node, in the folder of the authority's own (`ca`)."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca))
    hosts = {node: f"127.0.0.{number}" for number, node in enumerate(nodes, 11)}
    return {node: _issue(authority, node, host, ca.parent) for node, host in hosts.items()}


def _issue(authority: trustme.CA, node: str, host: str, folder: Path) -> Certificate:
    issued = authority.issue_cert(host, node)
    file = folder / f"{node}.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(file))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())).hexdigest()
    return Certificate(host, str(file), ":".join(digest[at : at + 2] for at in range(0, 64, 2)).upper())
