"""Any value for any option gives a checked configuration or an error of one line."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing, options
from stkd_lightning.commands.config.ranges import RANGES, SINGLE
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError
from tests.faults.mutations import read

with composing():
    OPTIONS = [o for o in options(composed("train", [])) if not o.endswith("_target_")]
GROUPS = ["dataset", "student", "teacher", "loss", "mixup", "optimizer", "scheduler", "trainer", "logger", "experiment"]

PLAIN = st.one_of(
    st.integers(-(10**30), 10**30).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["null", "true", "false", "''", "???", "'???'", "auto", "1e400", "0x10", "1_000", "1" * 400, "-0.0"]
    ),
    st.sampled_from(["${seed}", "${nope}", "${oc.env:NOPE_XY}", "${oc.env:HOME}", "${", "'${'", "\\${seed}", "~", "/"]),
    st.sampled_from(["resnet8", "x" * 300, "x/" * 3000, "/dev/null/x", "a=b", "--", "[", "{", "'", "1,2", "glob(*)"]),
    st.sampled_from(["range(1,3)", "interval(0,1)", "[" * 900 + "]" * 900]),
    st.text(max_size=8),
    st.text(max_size=8).map(lambda text: "'" + text.replace("'", "") + "'"),
)
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=3).map(lambda values: f"[{','.join(values)}]"),
    PLAIN.map(lambda value: f"{{a: {value}}}"),
)
OVERRIDES = st.builds(
    lambda sign, option, value: f"{sign}{option}={value}",
    st.sampled_from(["", "", "", "", "+", "++", "~"]),
    st.sampled_from(OPTIONS + 5 * GROUPS),
    VALUES,
)


@pytest.fixture(scope="module", autouse=True)
def in_the_shipped_configuration() -> Iterator[None]:
    with composing():
        yield


@settings(
    max_examples=80, phases=[Phase.generate], deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.lists(OVERRIDES, min_size=1, max_size=2))
def test_any_value_of_any_option(overrides: list[str]) -> None:
    # What is too long to read is the user's own value.
    read(" ".join(overrides), lambda: check(composed("train", overrides)), longest=20_000)


ODD = [float("nan"), float("inf"), -1, 10**400, None, "", "é", [1], {"a": 1}, True, "${nope}"]
CHECKED = [f"{part}.{name}" for part, checks in RANGES.items() for name in checks]
CHECKED += [*SINGLE, "precision", "teacher.checkpoint", "cache_dir"]


@pytest.mark.parametrize("option", [o for o in CHECKED if o in OPTIONS])
def test_odd_values_of_checked_options(option: str) -> None:
    config = composed("train", [])
    for value in ODD:
        OmegaConf.update(config, option, value, merge=False, force_add=True)
        read(f"{option}={value!r}", lambda: check(config))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cache_dir=123"], "cache_dir=123: must be the name of a file or folder"),
        (["teacher.checkpoint=nan"], "teacher.checkpoint=nan: must be the name of a file or folder"),
        ([f"teacher.checkpoint={'x' * 300}"], "too long, or with characters that a file name cannot have"),
        ([f"hydra.run.dir={'x' * 300}"], "output folder='xxx"),
        (["seed=${nope}"], "option 'seed': Interpolation key 'nope' not found"),
        ([f"seed={2**32}"], "seed=4294967296: must be at most 4294967295"),
        (
            [f"mixup.probability={'1' * 400}"],
            "mixup.probability: must be a number in [0, 1], not a number of 332 hexadecimal",
        ),
        (["optimizer=[1,2]"], "optimizer=[1,2]: "),
        (["hydra.job=1"], "hydra.job=1"),
        (["scheduler={a:1}", "+mixup.fraction=1"], "scheduler={a:1} +mixup.fraction=1: Could not "),
        (["hydra.run=1"], "hydra.run=1"),
        (["seed=" + "[" * 900 + "]" * 900], "seed=[[["),
    ],
)
def test_what_was_once_another_exception(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        check(composed("train", overrides))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_whole_numbers_written_as_floats_are_integers() -> None:
    """The values and the keys are those of the integers; a share of the batches stays a share."""
    pairs = {"seed": ("1e3", "1000"), "trainer.max_epochs": ("2.0", "2"), "dataset.batch_size": ("6.4e1", "64"),
             "trainer.limit_train_batches": ("3.0", "3"), "trainer.limit_val_batches": ("1.0", "1.0"),
             "diagnostics": ("1e3", "1000"),
             "trainer.devices": ("1.0", "1"), "teacher.seed": ("2.0", "2"), "teacher.max_steps": ("5.0", "5"),
             }  # fmt: skip
    floats, whole = ([f"{name}={values[i]}" for name, values in pairs.items()] for i in (0, 1))
    configs = [composed("train", overrides) for overrides in (floats, whole)]
    for config in configs:
        check(config)
    one, other = (
        repr(OmegaConf.to_container(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])))
        for config in configs
    )
    assert one == other
    assert configs[0].dataset.seed == 1000
    assert repr(configs[0].trainer.limit_val_batches) == "1.0"


CHECKS = ["whole", "positive", "unit_interval", "non_negative", "path", "automatic", "seed", "steps", "batches"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(["whole", "positive", "unit_interval", "non_negative", "path", "automatic", "seed", "steps"]),
    st.data(),
)
def test_ranges(name: str, data: st.DataObject) -> None:
    value = data.draw(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans(), st.just(10**400)))
    taken = read(repr(value), lambda: getattr(validation, name)("an.option.of.the.user", value))
    rounded = float(value) if isinstance(value, int) and isinstance(taken, float) else value
    assert isinstance(taken, InputError) or taken == rounded
