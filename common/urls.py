"""URLs of HTTP hooks: what is one, for whoever reads a hook."""

from urllib.parse import urlsplit


def mistake(url: str) -> str:
    """What is wrong with it; empty: nothing. A URL without a host, as in `http://:8080/drain`, is the VM's own."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) or (parts.netloc.startswith(":") and parts.port is not None)
        valid = parts.scheme in ("http", "https") and named and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets that do not close, or a port beyond 65535
        valid = False
    if not valid:
        return "must be an http or https URL with a host, or with a port alone"
    return "must have no user or password, which belong into headers" if "@" in parts.netloc else ""
