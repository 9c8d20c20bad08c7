"""What the command line prints: progress, warnings, interruption."""

import contextlib
import functools
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ..atomic_files import errors_naming


_SECONDS_BETWEEN_LINES = 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s after {elapsed}, {rate_fmt}\n"
_LOGGERS = ("foal_hf", "transformers", "datasets", "huggingface_hub")


@contextlib.contextmanager
def terminal(in_options: Callable[[str], str], *, quiet: bool) -> Iterator[None]:
    """Print for a terminal or a log.

    Characters that the encoding of the output does not have are escaped. Progress bars are for terminals; a log gets a
    line every 30 seconds.

    Args:
        in_options (`Callable`): Gives a warning of the library in the words of the command line.
        quiet (`bool`): Print neither progress nor warnings.
    """
    with contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        stack.enter_context(contextlib.redirect_stdout(_Output(sys.stdout)))
        make_record = logging.getLogRecordFactory()
        stack.callback(logging.setLogRecordFactory, make_record)

        def record(*arguments: Any, **settings: Any) -> logging.LogRecord:
            made = make_record(*arguments, **settings)
            if made.name.startswith("foal_hf"):
                made.msg, made.args = in_options(made.getMessage()), ()
            return made

        logging.setLogRecordFactory(record)
        if quiet:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for name in _LOGGERS:
                logger = logging.getLogger(name)
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.ERROR)
        # transformers' WavLM passes a boolean padding mask beside a float position bias.
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        if quiet or not sys.stderr.isatty():
            stack.enter_context(_progress_in_lines(float("inf") if quiet else _SECONDS_BETWEEN_LINES))
        yield


@contextlib.contextmanager
def _progress_in_lines(seconds: float) -> Iterator[None]:
    """Make every tqdm bar print a line now and then, and none if it ends before that."""
    from tqdm.std import tqdm

    settings: dict[str, Any] = {"delay": seconds, "mininterval": seconds, "maxinterval": seconds, "bar_format": _LINE}
    original = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(original, **settings)
    try:
        yield
    finally:
        tqdm.__init__ = original


class _Output:
    """A stream whose errors, such as of a full disk, name it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, as the stream does."""
        with errors_naming("standard output"):
            return self._stream.write(text)

    def flush(self) -> None:
        """Flush, as the stream does."""
        with errors_naming("standard output"):
            self._stream.flush()


def raise_on_interrupt() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`: everything is imported, and there may be something to clean up."""
    program = sys.modules.get("foal_hf_command")
    if program is not None and signal.getsignal(signal.SIGINT) is program.exit_on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
