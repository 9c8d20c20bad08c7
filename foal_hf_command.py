"""The program `foal-hf`. With this module loaded, `foal_hf` registers its classes only when a command needs them."""

from foal_hf.cli import main


__all__ = ["main"]
