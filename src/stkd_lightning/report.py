"""``python -m stkd_lightning.report runs=...``: compare finished runs on one page."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("report", "stkd_lightning.commands.report:report")


if __name__ == "__main__":
    main()
