"""``python -m stkd_lightning.cache``: list what the cache holds, and delete what is not needed."""

from stkd_lightning.commands.cli import command


def main() -> None:
    """Run the command."""
    command("cache", "stkd_lightning.commands.cache:cache")


if __name__ == "__main__":
    main()
