"""Nothing of a credential is left, and nothing else is touched."""

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stkd_lightning.utilities.redaction import IN_QUERIES, MARK, WORDS, is_secret, redacted

PUNCTUATED = st.text(st.sampled_from("abzAZ059 .,:;=&?#@/+~-_'\"{}[]()\n\\"), max_size=60)
NAMES = st.sampled_from(["password", "api_key", "db.Password", "hf_token", "WANDB_API_KEY", "secret", "x.credentials"])
SECRETS = st.from_regex(r"[A-Za-z0-9%_.~-]{3,20}[A-Za-z]", fullmatch=True)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("https://user:pa@ss@host/x.tar.gz", "https://***@host/x.tar.gz"),
        ("https://ghp_1@host/x@2/y", "https://***@host/x@2/y"),
        ("https://me:a/b#c?d@host/x", "https://***@host/x"),
        ("https://me:a@b/c@host:80/x", "https://***@host:80/x"),
        ("https://h/x?part=1&X-Amz-Signature=ab&n=2", "https://h/x?part=1&X-Amz-Signature=***&n=2"),
        ("https://h/x?token=123: broken", "https://h/x?token=***: broken"),
        ("https://h/x?sig=a%2Bb%3D; get it with: curl", "https://h/x?sig=***; get it with: curl"),
        ("a='https://h/x?token=b' c='d'", "a='https://h/x?token=***' c='d'"),
        ("go on with: x 'a.password=b' c='d'", "go on with: x 'a.password=***' c='d'"),
        ("https://h/x#access_token=ab", "https://h/x#access_token=***"),
        ("https://h/x?AWSAccessKeyId=ab", "https://h/x?AWSAccessKeyId=***"),
        ("#0 : seed=1 +logger.wandb.api_key=ab loss=kd", "#0 : seed=1 +logger.wandb.api_key=*** loss=kd"),
        ("a.password='it\\'s mine' loss=kd", "a.password=*** loss=kd"),
        ("a.password='unfinished", "a.password=***"),
        ("a.password=x,'y z',w loss=kd", "a.password=*** loss=kd"),
        ("a.password=two\\ words loss=kd", "a.password=*** loss=kd"),
        ("+a={api_key:a\\,b,n:1}", "+a={api_key:***,n:1}"),
        ("+a.b={user: me, password: two words, n: 1}", "+a.b={user: me, password: ***, n: 1}"),
        ("{'api_key': 'a b', \"x\": 2}", "{'api_key': ***, \"x\": 2}"),
        ("a.credentials={x: {y: 1}, z: 2}", "a.credentials=***"),
        ("{credentials: {x: {y: 1}, z: 2}}", "{credentials: ***"),
    ],
)
def test_text(given_text: str, expected: str) -> None:
    assert redacted(given_text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "a.db_password.x",
        "apiKey",
        "WANDB_API_KEY",
        "hf-token",
        "AWS_SECRET_ACCESS_KEY",
        "Credentials",
        "pwd",
        "MYSQL_PWD",
        "db.pass",
        "jwt",
        "auth",
        "bearer",
        "private_key",
        "tokens",
        "ssh_key",
        "PGPASSWORD",
        "dbpassword2",
    ],
)
def test_names_of_credentials(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer",
        "token_mixing.dim",
        "max_tokens",
        "num_tokens",
        "class_token",
        "pad_token",
        "key",
        "keys",
        "author",
        "student.name",
        "secretary",
        "monkey",
        "bypass",
        "compass",
        "passes",
        "",
        3,
    ],
)
def test_other_names(name: object) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "student.name=resnet8", "+student.class_token=true", "dataset.password=null", "tokenizer=bpe", "num_token=16",
        "tokens=77", "x={tokens: 77, use_auth: true}", "http://host.org:8080/x@2", "http://localhost:5000/x@2",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "ssh host:path", "user@host.org",
        "file:///data/x@2", "option 'token': unknown; all: token, password", "https://h/x?page=2&sort=key",
    ],
)  # fmt: skip
def test_text_without_credentials(text: str) -> None:
    assert redacted(text) == text
    assert redacted([text]) == [text]


def test_containers() -> None:
    value: dict[Any, Any] = {
        "url": "https://a:b@h/x", "api_key": "ab", "none": None, "password": None, "pin_password": 123, "token": 4,
        "class_token": True, "credentials": {"user": "me", "more": ["ab", 1.5, None]}, 3: ("x", ["https://t@h"]),
        "n": 1.5,
    }  # fmt: skip
    assert redacted(value) == {
        "url": "https://***@h/x", "api_key": MARK, "none": None, "password": None, "pin_password": MARK, "token": 4,
        "class_token": True, "credentials": {"user": MARK, "more": [MARK, MARK, None]}, 3: ("x", ["https://***@h"]),
        "n": 1.5,
    }  # fmt: skip
    assert value["api_key"] == "ab"  # what was given is left as it is


def test_an_option_in_a_list_is_hidden_to_its_end() -> None:
    assert redacted(["++a.password=two words, and=more", "loss=kd"]) == ["++a.password=***", "loss=kd"]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("+a={api_key: x\\, y, b: [1, {pwd: 'p, q'}]}", "+a={api_key:***,b:[1,{pwd:***}]}"),
        ("+a={x: 1},{jwt: b}", "+a={x:1},{jwt:***}"),
        ("+a={api_key: x, y z", "+a=***"),  # not in Hydra's syntax
        ("+a='{api_key: x, y z'", "+a=***"),  # a text
        (
            "a=out/${oc.env:HF_TOKEN,b}",
            "a=out/${oc.env:HF_TOKEN,b}",
        ),
        ("a=${b:{pwd: x}}", "a=***"),
        ("+a={x: 1, y: [b]}", "+a={x: 1, y: [b]}"),
    ],
)
def test_an_option_is_read_by_hydras_parser(option: str, expected: str) -> None:
    assert redacted([option]) == [expected]
    assert redacted([expected]) == [expected]


def test_long_text_takes_no_time() -> None:
    for text in (
        "a" * 200_000,
        "password" * 20_000,
        "a=" * 50_000,
        "://" * 50_000,
        ", " * 50_000,
        "://:" * 50_000 + " @",
    ):
        assert redacted(text) == text


@given(st.text() | PUNCTUATED)
def test_text_without_secret_names_is_unchanged(text: str) -> None:
    assume(not re.search("|".join(WORDS | IN_QUERIES), text.lower()))
    assume("://" not in text)
    assert redacted(text) == text
    assert redacted([text, (text,)]) == [text, (text,)]


@given(
    st.lists(PUNCTUATED | NAMES | SECRETS | st.sampled_from(["=", "://", "@", "?", "&token=", "'", "{"])).map("".join)
)
def test_a_second_time_changes_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    once = redacted({"x": text, "y": [text]})
    assert redacted(once) == once


@given(NAMES, SECRETS, st.sampled_from(["'{}'", '"{}"', "{}", "[a,{}]", "{{a: {}}}"]))
def test_nothing_of_a_credential_is_left(name: str, secret: str, form: str) -> None:
    secret = f"zq{secret}"
    written = f"seed=1 +{name}={form.format(secret)} https://u:{secret}@h/x?a=1&{name}={secret}&b=2 loss=kd"
    assert secret not in redacted(written)
    assert redacted(written).startswith(f"seed=1 +{name}=***")
    assert secret not in str(redacted({"a": {name: secret}, "b": [f"{name}={secret}"], "c": written}))
