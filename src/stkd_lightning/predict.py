"""``python -m stkd_lightning.predict checkpoint=...``: have a student say what it takes images for."""

from stkd_lightning.cli import command


def main() -> None:
    """Run the command."""
    command("predict", "stkd_lightning.runs.predict:predict")


if __name__ == "__main__":
    main()
