"""Text that others chose (guests, hypervisors, manifests), made safe to show."""


def clean(text: str) -> str:
    """`text` without what could command a terminal: guests and hypervisors choose names and output."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
