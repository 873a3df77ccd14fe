"""Redaction of credentials: ``***`` replaces them in everything that is written, printed or uploaded.

A credential is recognized by its name, ``db_password=...`` or ``{api_key: ...}``, or by its position in a URL. The last
word of the name must be one of the words below; ``tokenizer``, ``token_mixing`` and ``max_tokens`` are no credentials.
"""

import re
from dataclasses import replace
from typing import Any

MARK = "***"
WORDS = {"password", "passwords", "passwd", "pwd", "pw", "pass", "passcode", "passphrase", "secret", "secrets",
         "credential", "credentials", "token", "tokens", "jwt", "auth", "bearer", "authorization"}  # fmt: skip
KEYS = {"api", "access", "secret", "private", "ssh", "auth", "signing", "encryption", "account"}  # before the word key
# Before the words token and tokens: these count tokens, or name a token of a vocabulary or a transformer.
HARMLESS = {"max", "min", "num", "n", "total", "special", "cls", "class", "pad", "bos", "eos", "unk", "sep", "mask",
            "reg", "register", "prefix"}  # fmt: skip
JOINED = ("password", "passwd", "passphrase", "apikey", "accesstoken", "authtoken", "secretkey", "privatekey")
IN_QUERIES = {"signature", "sig", "key", "auth", "jwt"}  # further words, anywhere in a name, in a URL's query

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_USER = re.compile(r"(?<=://)[^\s/?#'\"<>]+(?=@)")
# A password that contains / ? or #: user:password@ up to the last @. host.org:8080/x@2 has a port instead.
_USER_PASSWORD = re.compile(
    r"(?<=://)(?!(?:[^\s/?#:@]*\.[^\s/?#:@]*|localhost|\[[^\s\]]*\]):\d+(?:[/?#\s]|$))[^\s/?#:@'\"<>]*:[^\s'\"<>]{1,300}(?=@)"
)
# name=value, also in a URL's query, and name: value within braces. The lookbehind keeps long words linear.
_NAME = re.compile(
    r"(?P<query>[?&;#])?(?<![\w.@-])(?P<name>[\w.@-]+)=|[{,]\s*(?P<quote>['\"]?)(?P<key>[\w.@-]+)(?P=quote)\s*:\s*"
)
_WRAPPED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\{.*\}|\[.*\]"
_BARE = r"(?:\\.|[^\s&#'\"\\])*(?:\\.|[^\s&#'\".,:;!?)\]}>\\])"  # punctuation after a value belongs to the sentence
_PART = rf"(?:{_WRAPPED})+(?:{_BARE})?|{_BARE}"
_VALUE = re.compile(rf"(?:{_PART})(?:,(?:{_PART}))*|[^\s&#]+")
_IN_QUERY = re.compile(rf"{_BARE}|[^\s&#'\"]+")
_ITEM = re.compile(_WRAPPED + r"|[^\s,{}\\](?:(?:\\.|[^,{}\n\\])*(?:\\.|[^\s,{}\\]))?|(?:\\.|[^,{}\n\\])+")
_OPTION = re.compile(r"([+~]{0,2}([\w./@:-]+)=)(.*)", re.DOTALL)
_KEY = re.compile(r"[\w.@-]+")
_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
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
    if not words:
        return False
    last, before = words[-1], words[-2:-1]
    if last in ("token", "tokens"):
        return HARMLESS.isdisjoint(before)
    return last in WORDS or last.endswith(JOINED) or (last == "key" and not KEYS.isdisjoint(before))


def _is_harmless(name: str, text: str) -> bool:
    """Return whether a value under a secret name is no credential: a switch, or a number of tokens."""
    return bool(_SWITCH.fullmatch(text) or (_words(name)[-1:] in (["token"], ["tokens"]) and _NUMBER.fullmatch(text)))


def _hidden(value: Any, name: str) -> Any:
    """Return a value under a secret name with its credentials replaced."""
    if isinstance(value, dict):
        return {k: _hidden(v, name) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_hidden(v, name) for v in value)
    return value if _is_harmless(name, str(value)) else MARK


def _option(text: str) -> str:
    """Return ``name=value`` without credentials, as Hydra's own parser reads it."""
    match = _OPTION.fullmatch(text)
    if match is None:
        return _text(text)
    if is_secret(match[2]):
        return text if _is_harmless(match[2], match[3]) else match[1] + MARK
    if "{" not in match[3] or not any(map(is_secret, _KEY.findall(_INTERPOLATION.sub("", match[3])))):
        return match[1] + _text(match[3])
    try:
        return _nested(text)
    except Exception:  # not a mapping in Hydra's syntax: half a value cannot be read, so none of it is shown
        return match[1] + MARK


def _nested(text: str) -> str:
    """Return an override whose value contains mappings without the credentials in them."""
    # Imported here: a program that only loads a student does not need Hydra's parser.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Override, ValueType

    override = OverridesParser.create().parse_override(text)
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    plain = [Override._convert_value(v) for v in values]  # type: ignore[arg-type]
    shown = redacted(plain)
    if any(isinstance(v, str) and "{" in v for v in plain):
        raise ValueError("a text that may contain a mapping")
    if shown == plain:
        return text
    elements = [replace(override, _value=v, value_type=ValueType.ELEMENT).get_value_element_as_str() for v in shown]
    return f"{override.get_key_element()}={','.join(elements)}"


def _text(text: str) -> str:
    text = _USER_PASSWORD.sub(MARK, text) if "@" in text else text
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
