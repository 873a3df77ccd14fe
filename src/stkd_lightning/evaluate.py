"""``python -m stkd_lightning.evaluate checkpoint=...``: evaluate a student."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("evaluate", "stkd_lightning.commands.evaluate:evaluate")


if __name__ == "__main__":
    main()
