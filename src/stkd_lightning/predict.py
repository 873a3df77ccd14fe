"""``python -m stkd_lightning.predict checkpoint=...``: have a student say what it takes images for."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("predict", "stkd_lightning.commands.predict:predict")


if __name__ == "__main__":
    main()
