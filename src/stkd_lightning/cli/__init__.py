"""The command line: a configuration is composed and checked before anything heavy is loaded or written."""

from stkd_lightning.cli.command import command

__all__ = ["command"]
