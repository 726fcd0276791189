"""Database URLs without their passwords, for messages, command lines and files."""

import re
import urllib.parse

HIDDEN = "***"
_IN_USER = re.compile(r"(?<=://)([^/?#\s:]*):(\S*)@")  # greedy: a password may hold an @
_IN_QUERY = re.compile(r"([?&](?:password|passwd|sslpassword|secret|token)=)([^&\s]*)", re.I)


def is_url(storage: str) -> bool:
    """Whether a storage is a database URL; otherwise it is the path of a file."""
    return "://" in storage


def masked(text: str) -> str:
    """The text with the passwords of all URLs in it replaced by ``***``."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _IN_USER.sub(rf"\1:{HIDDEN}@", text))


def without_secrets(text: str, url: str) -> str:
    """The text without the passwords of ``url``, as written there or decoded."""
    found = [match.group(2) for match in (_IN_USER.search(url), _IN_QUERY.search(url)) if match]
    spellings = {
        spelling for secret in found for spelling in (secret, urllib.parse.unquote(secret))
    }
    for secret in sorted(filter(None, spellings), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return masked(text)
