"""What each command of `foal-hf` does: it calls one function of the library and prints what comes out.

Nothing heavy is imported before a command runs: `foal-hf --help` answers at once.
"""
