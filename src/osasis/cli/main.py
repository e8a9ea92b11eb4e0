"""Entry point of `osasis`: finds the command, turns failures into messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn, TextIO, cast

from osasis._version import __version__
from osasis.cli import (
    batch,
    bench,
    demo,
    density,
    doctor,
    edit,
    evaluate,
    explore,
    film,
    learn,
    models,
    pretrain,
    pretrain_autoencoder,
    pretrain_evaluate,
    studio,
    stylize,
)
from osasis.cli.options import positive
from osasis.cli.output import Shown
from osasis.errors import OsasisError, UserError
from osasis.memory import keep_freed_memory
from osasis.threads import share_cores

COMMANDS = (
    learn,
    stylize,
    batch,
    film,
    edit,
    explore,
    studio,
    models,
    demo,
    density,
    evaluate,
    pretrain,
    pretrain_autoencoder,
    pretrain_evaluate,
    doctor,
    bench,
)

EPILOG = """\
examples:
  osasis demo                                     see what it does, in a few minutes
  osasis learn painting.jpg -o painting.osasis.safetensors
  osasis stylize photos/ --style painting.osasis.safetensors -o stylized/
  osasis studio                                   the same on a page in your browser

`osasis COMMAND --help` explains a command and its options.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints look like every other error of the program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, hint=f"{self.prog} --help explains the options")


def _add_debug(parser: argparse.ArgumentParser) -> None:
    """Add `--debug`; it may stand before or after the command."""
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the whole traceback of an error",
    )


def build_parser() -> Parser:
    """The parser of `osasis` and all its commands."""
    parser = Parser(
        prog="osasis",
        description="Show it one picture of a style; it redraws any photo in that style.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"osasis {__version__}")
    _add_debug(parser)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for module in COMMANDS:
        command = module.add_parser(subparsers)
        command.set_defaults(run=module.run, parser=command)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.allow_abbrev = False
        _add_debug(command)
        command.add_argument(
            "--threads",
            type=positive,
            default=argparse.SUPPRESS,
            metavar="N",
            help="processor cores to use (default: $OMP_NUM_THREADS, else all it may use)",
        )
    return parser


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}? " if close else ""


def _joined(argv: Sequence[str], names: Sequence[str]) -> list[str]:
    """The command line with a command of two words, such as `pretrain evaluate`, as one."""
    words = list(argv)
    for i, pair in enumerate(zip(words, words[1:], strict=False)):
        if "-".join(pair) in names and all(word.startswith("-") for word in words[:i]):
            return [*words[:i], "-".join(pair), *words[i + 2 :]]
    return words


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line.

    Raises:
        UserError: it names an unknown command or option, or an option's value is wrong.
    """
    names = [module.__name__.rpartition(".")[2].replace("_", "-") for module in COMMANDS]
    argv = _joined(argv, names)
    command = next((word for word in argv if not word.startswith("-")), None)
    if command is not None and command not in names:
        raise UserError(
            f"there is no command {command!r}",
            hint=f"{_nearest(command, names)}commands are {', '.join(names)}",
        )
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:
        parser: argparse.ArgumentParser = getattr(args, "parser", None) or build_parser()
        options = [o for action in parser._actions for o in action.option_strings]
        raise UserError(
            f"unrecognized arguments: {' '.join(unknown)}",
            hint=f"{_nearest(unknown[0], options)}{parser.prog} --help explains the options",
        )
    return args


def _report(message: str, hint: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _run(argv: Sequence[str]) -> int:
    try:
        args = parse(argv)
        if args.command is None:
            build_parser().print_help()
            return UserError.exit_code
        keep_freed_memory()
        share_cores(vars(args).pop("threads", None))
        return int(args.run(args))
    finally:
        sys.stdout.flush()  # a reader that has left shows here, `--help` included, and not at exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status.

    0: done; 1: it failed; 2: wrong use; 130: stopped with Ctrl-C or SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else argv
    with (
        _stopping(),
        contextlib.redirect_stdout(cast(TextIO, Shown(sys.stdout))),
        contextlib.redirect_stderr(cast(TextIO, Shown(sys.stderr))),
    ):
        return _main(argv)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does; once either came, another waits for what is being saved.

    A third Ctrl-C ends the program at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stops = (signal.SIGINT, signal.SIGTERM)
    came = 0

    def stop(number: int, frame: object) -> None:
        nonlocal came
        came += 1
        if came == 1:
            raise KeyboardInterrupt
        if came == 2:
            os.write(2, b"\nstopping; once more ends at once, and what was not saved is lost\n")
        else:
            os._exit(128 + number)

    before = [signal.signal(number, stop) for number in stops]
    try:
        yield
    finally:
        if not came:  # else nothing may interrupt the end of the program
            for number, handler in zip(stops, before, strict=True):
                signal.signal(number, handler)


def _main(argv: Sequence[str]) -> int:
    debug = "--debug" in argv
    try:
        return _run(argv)
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # whoever read our output has left; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OsasisError as error:
        _report(str(error), error.hint, debug=debug)
        return error.exit_code
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _report(f"{error.strerror or error}{where}", "", debug=debug)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort, so that nobody sees a traceback
        if debug:
            traceback.print_exc()
        summary = " ".join(str(error).split()) or type(error).__name__
        again = "" if debug else "; run again with --debug"
        print(f"internal error: {type(error).__name__}: {summary}{again}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
