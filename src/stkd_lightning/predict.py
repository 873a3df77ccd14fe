"""``python -m stkd_lightning.predict checkpoint=...``: predict the classes of images with a student."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("predict", "stkd_lightning.commands.predict:predict")


if __name__ == "__main__":
    main()
