"""Text that others chose, made fit to show: by guests, hypervisors and manifests, and by pydantic."""


def clean(text: str) -> str:
    """`text` without what could command a terminal: guests and hypervisors choose names and output."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)


def encodable(text: str) -> str:
    """As UTF-8 can carry it: half a surrogate pair, as JSON may hold it, is written as its escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def own_words(message: str) -> str:
    """What a validator of ours said, without the words that pydantic puts before it."""
    return message.removeprefix("Value error, ")
