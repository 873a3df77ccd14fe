"""``python -m stkd_lightning.train``: train a student with a teacher."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("train", "stkd_lightning.commands.train:train")


if __name__ == "__main__":
    main()
