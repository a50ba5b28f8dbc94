"""Addresses of hypervisors."""

from urllib.parse import SplitResult, urlsplit


def https(url: str) -> SplitResult | None:
    """Its parts; None if it is no https, or has no host, a login or a port that does not exist."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    named = parts.scheme == "https" and parts.hostname and port != 0
    return parts if named and not parts.username and not parts.password else None
