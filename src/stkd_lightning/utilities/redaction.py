"""Redaction of credentials: ``***`` replaces them in everything that is written, printed or uploaded.

A credential is recognized by its name, ``db_password=...`` or ``{api_key: ...}``, or by its position in a URL. The last
word of the name must be one of the words below; ``tokenizer``, ``token_mixing`` and ``max_tokens`` are no credentials.
"""

import re
from typing import Any

MARK = "***"
WORDS = {"password", "passwords", "passwd", "passphrase", "secret", "secrets", "credential", "credentials", "token",
         "apikey", "authorization"}  # fmt: skip
KEYS = {"api", "access", "secret", "private"}  # before the word key
IN_QUERIES = {"signature", "sig", "key", "auth", "jwt"}  # further words, anywhere in a name, in a URL's query

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_USER = re.compile(r"(?<=://)[^\s/?#'\"<>]+(?=@)")
# name=value, also in a URL's query, and name: value within braces. The lookbehind keeps long words linear.
_NAME = re.compile(
    r"(?P<query>[?&;#])?(?<![\w.@-])(?P<name>[\w.@-]+)=|[{,]\s*(?P<quote>['\"]?)(?P<key>[\w.@-]+)(?P=quote)\s*:\s*"
)
_WRAPPED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\{.*\}|\[.*\]"
_BARE = r"[^\s&#'\"]*[^\s&#'\".,:;!?)\]}>]"  # punctuation after a value belongs to the sentence
_PART = rf"(?:{_WRAPPED})+(?:{_BARE})?|{_BARE}"
_VALUE = re.compile(rf"(?:{_PART})(?:,(?:{_PART}))*|[^\s&#]+")
_IN_QUERY = re.compile(rf"{_BARE}|[^\s&#'\"]+")
_ITEM = re.compile(_WRAPPED + r"|[^\s,{}](?:[^,{}\n]*[^\s,{}])?")
_OPTION = re.compile(r"([+~]{0,2}([\w./@:-]+)=)(.*)", re.DOTALL)
_SWITCH = re.compile(r"(?i:true|false|null|none)?")
_NUMBER = re.compile(r"[-+]?[\d.]+")


def redacted(value: Any) -> Any:
    """Return a value without its credentials; a value without credentials stays equal.

    Args:
        value: text, or dicts, lists and tuples of any values. The keys of dicts are names. A text ``name=value`` in a
            list is a single option, also if its value has several words.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {k: _hidden(v, k) if is_secret(k) else redacted(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_option(v) if isinstance(v, str) else redacted(v) for v in value)
    return value


def is_secret(name: object) -> bool:
    """Return whether an option's dotted name, or a part of it, names a credential."""
    return isinstance(name, str) and any(_ends_secret(_words(part)) for part in name.split("."))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _ends_secret(words: list[str]) -> bool:
    return bool(words) and (words[-1] in WORDS or (words[-1] == "key" and not KEYS.isdisjoint(words[-2:-1])))


def _is_harmless(name: str, text: str) -> bool:
    """Return whether a value under a secret name is no credential: a switch, or a number of tokens."""
    return bool(_SWITCH.fullmatch(text) or (_words(name)[-1:] == ["token"] and _NUMBER.fullmatch(text)))


def _hidden(value: Any, name: str) -> Any:
    """Return a value under a secret name with its credentials replaced."""
    if isinstance(value, dict):
        return {k: _hidden(v, name) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_hidden(v, name) for v in value)
    return value if _is_harmless(name, str(value)) else MARK


def _option(text: str) -> str:
    match = _OPTION.fullmatch(text)
    if match and is_secret(match[2]) and not _is_harmless(match[2], match[3]):
        return match[1] + MARK
    return _text(text)


def _text(text: str) -> str:
    text = _USER.sub(MARK, text)
    parts, end = [], 0
    for match in _NAME.finditer(text):
        name = match["name"] or match["key"]
        in_query = bool(match["query"]) and not (WORDS | IN_QUERIES).isdisjoint(_words(name))
        if match.start() < end or not (in_query or is_secret(name)):
            continue
        pattern = _IN_QUERY if in_query else _VALUE if match["name"] else _ITEM
        value = pattern.match(text, match.end())
        if value and (in_query or not _is_harmless(name, value[0])):
            parts += [text[end : match.end()], MARK]
            end = value.end()
    return "".join(parts) + text[end:]
