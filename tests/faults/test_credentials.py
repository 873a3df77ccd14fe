"""A run is given credentials in every way that there is; afterwards they are searched in all that it left and said."""

from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess

from tests.conftest import Command

SECRET = "zq7secret"  # a part of each
KEY = f"{SECRET}0123456789abcdef0123456789abcdef0123456789"
OPTIONS = [
    f"+pair.mirror='https://me:{SECRET}@example.org/x?part=1&X-Amz-Signature={SECRET}'",
    f"+pair.hub={{user: me, access_token: {SECRET}}}",
    f"+pair.db_password={SECRET}",
    f"+logger.wandb.settings.api_key={KEY}",
    f"+pair.first.pwd=x {SECRET}",
    f"+pair.mine={{api_key: {SECRET}\\, {SECRET}, tokens: 77}}",
    "+pair.note=see ${pair.db_password}",
    "hydra.output_subdir=.hydra",
]


def found(folder: Path, done: CompletedProcess[str]) -> Iterable[str]:
    for path in folder.rglob("*"):
        if path.is_file() and SECRET.encode() in path.read_bytes():
            yield str(path)
        if SECRET in path.name:
            yield f"the name of {path}"
    yield from (name for name, text in (("stdout", done.stdout), ("stderr", done.stderr)) if SECRET in text)


def test_a_multirun_keeps_credentials_to_itself(command: Command, tmp_path: Path) -> None:
    done = command(
        "train", "-m", "experiment=quickstart", "trainer.max_epochs=1", "baseline=false", "loss=ce",
        "+trainer.limit_train_batches=3", "hydra.sweep.dir=runs", *OPTIONS, "seed=0",
        WANDB_API_KEY=KEY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "+pair.db_password=***" in done.stdout  # Hydra's own line
    assert "https://***@example.org/x?part=1&X-Amz-Signature=***" in (tmp_path / "runs/0/config.yaml").read_text()
    assert "+pair.db_password=***" in (tmp_path / "runs/0/summary.json").read_text()
    assert ",+pair.mine={api_key:***,tokens:77}," in (tmp_path / "runs/multirun.yaml").read_text()
    assert "see ***" in (tmp_path / "runs/0/config.yaml").read_text()
    assert (tmp_path / "runs/0/.hydra/overrides.yaml").is_file()
    assert (tmp_path / "runs/0/checkpoints/last.ckpt").is_file()
    assert list((tmp_path / "runs/0/wandb").rglob("*.wandb"))
    assert list(found(tmp_path, done)) == []


def test_a_mistake_is_told_without_credentials(command: Command, tmp_path: Path) -> None:
    for mistake, words in (
        ("loss.alpha=[1", "error: loss.alpha=[1: brackets"),
        (f"+pair.my={{jwt: x, {SECRET}", "error: +pair.my: the value cannot be read"),
        ("+pair.db_password=1", "error: +pair.db_password=***: this option exists"),
    ):
        done = command("train", "experiment=quickstart", *OPTIONS, mistake)
        assert done.returncode == 2
        assert done.stderr.startswith(words)
        assert list(found(tmp_path, done)) == []
