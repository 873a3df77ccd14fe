"""Credentials in a configuration: the names of folders, and values that refer to a credential."""

import json

import pytest
from omegaconf import OmegaConf

from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.config.credentials import public, without_credentials
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.redaction import is_secret
from tests.commands.config.composed import FILE

SECRET = "+db.password=zq7 secret"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["hydra.run.dir=out/${hydra.job.override_dirname}"],
            "hydra.run.dir: the folder's name would contain a credential; "
            "add hydra.job.config.override_dirname.exclude_keys=[db.password]",
        ),
        (["hydra.mode=MULTIRUN", "hydra.sweep.subdir=x/${hydra.job.override_dirname}"], "hydra.sweep.subdir: the "),
        (["hydra.run.dir=out/${db.password}"], "hydra.run.dir: the folder's name would contain a credential; take"),
        (["+note=${db.password}", "cache_dir=${note}"], "cache_dir: the folder's name would contain"),
        (["hydra.run.dir=out/${oc.env:STKD_TOKEN,secret}"], "hydra.run.dir: the folder's name would contain"),
        (["hydra.run.dir='out/token=abc'"], "hydra.run.dir: the folder's name would contain"),
    ],
)
def test_folder_name_with_credential_is_refused(overrides: list[str], words: str) -> None:
    with composing(), pytest.raises(InputError) as error:
        check(composed("train", [SECRET, *overrides]))
    assert str(error.value).startswith(words)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [SECRET, "hydra.run.dir=out/${hydra.job.override_dirname}",
         "hydra.job.config.override_dirname.exclude_keys=[db.password]"],
        [SECRET, "hydra.sweep.subdir=${hydra.job.override_dirname}"],  # not used without --multirun
        ["loss=kd", "hydra.run.dir=out/${hydra.job.override_dirname}"],
        [SECRET, "hydra.run.dir=out/${now:%f}"],
        ['+my="{api_key: x}"'],
        ["+note='a {x} password=hello'"],
        ['+my=\'{"a": "b", "api_key": "x y"}\''],
    ],
)  # fmt: skip
def test_folder_name_without_credential_is_taken(overrides: list[str]) -> None:
    with composing():
        check(composed("train", overrides))


def test_override_dirname_is_made_of_redacted_overrides() -> None:
    overrides = [SECRET, "loss=kd", "+my={api_key: zq7, user: me}", "seed=1"]
    with composing():
        config = composed("train", [*overrides, "hydra.job.config.override_dirname.exclude_keys=[seed]"])
    shown = without_credentials(OmegaConf.to_container(config))
    assert shown["hydra"]["job"]["override_dirname"] == "+db.password=***,+my={api_key:***,user:me},loss=kd"
    assert "zq7" not in str(shown)


def test_override_dirname_of_a_text_that_is_cut_is_hidden() -> None:
    job = {"override_dirname": "+a=zq7", "config": {"override_dirname": {}}}
    shown = without_credentials({"hydra": {"job": job, "overrides": {"task": ["+a='password=\"zq7'"]}}})
    assert shown["hydra"]["job"]["override_dirname"] == "***"


def test_values_that_refer_to_a_credential_are_hidden() -> None:
    overrides = [SECRET, "+a=see ${db.password}", "+b=${a}", "+c=${oc.env:STKD_TOKEN,zq7}", "+d=${oc.env:HOME}"]
    with composing():
        config = composed("train", overrides)
    config = OmegaConf.masked_copy(config, ["db", "a", "b", "c", "d"])
    shown = public(config)
    assert "zq7" not in str(shown)
    assert (shown["a"], shown["b"], shown["c"]) == ("see ***", "see ***", "***")
    assert shown["d"].startswith("/")


def test_no_shipped_option_is_a_credential() -> None:
    options = {name for options in json.loads(FILE.read_text()).values() for name in options}
    assert [name for name in options if is_secret(name)] == []
