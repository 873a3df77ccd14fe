"""``python -m stkd_lightning.export checkpoint=...``: export a student as a file for other programs."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("export", "stkd_lightning.commands.export:export")


if __name__ == "__main__":
    main()
