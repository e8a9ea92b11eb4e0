"""Entry point of `osasis`: finds the command, turns failures into messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO, cast

from osasis._version import __version__
from osasis.errors import OsasisError, UserError
from osasis.terminal import Shown, say

if TYPE_CHECKING:
    from osasis.cli.app import Call

# place below osasis.cli, and what the page of commands says; nothing is imported for that page
COMMANDS = {
    "learn": ("learn:learn", "learn a style from one picture, or one from each of several"),
    "stylize": ("stylize:stylize", "redraw photos in a style"),
    "batch": ("batch:batch", "redraw millions of photos over many machines (Ray)"),
    "film": ("stylize:film", "redraw the face of a short film in a style"),
    "edit": ("edit:edit", "change what photos show: attributes, or a description"),
    "explore": ("explore:explore", "draw a sheet of what each control does"),
    "studio": ("studio:studio", "open a page in the browser that does all of this"),
    "models": ("models:models_list", "list, fetch, convert and check models"),
    "models list": ("models:models_list", "what is here, and what can be fetched"),
    "models info": ("models:models_info", "all that is known of a model"),
    "models path": ("models:models_path", "print where a fetched model is"),
    "models verify": ("models:models_verify", "check fetched files against their hashes"),
    "models remove": ("models:models_remove", "delete a fetched model"),
    "models fetch": ("models:models_fetch", "download, check, convert and put in place"),
    "models convert": ("models:models_convert", "convert released checkpoints, or back"),
    "demo": ("demo:demo", "see what it does, in a few minutes"),
    "density": ("density:density", "rank photos by how hard they are for a base"),
    "evaluate": ("evaluate:evaluate", "measure methods on photos and styles"),
    "pretrain": ("pretrain:pretrain", "train a base on your own images"),
    "pretrain autoencoder": ("pretrain:pretrain_autoencoder", "train an autoencoder"),
    "pretrain evaluate": ("pretrain:pretrain_evaluate", "measure a base"),
    "doctor": ("doctor:doctor", "check this machine and installation"),
    "bench": ("bench:bench", "time osasis on this machine"),
    "completion": ("app:completion", "print the completion of a shell"),
}
# what people call commands elsewhere
_ELSEWHERE = {
    "learn": "train finetune",
    "stylize": "transfer redraw apply",
    "models convert": "convert",
    "film": "video",
    "studio": "ui gui web serve",
    "models list": "list styles",
    "models fetch": "fetch download pull",
    "bench": "benchmark",
    "doctor": "check",
    "evaluate": "compare eval",
    "--help": "help",
}
MEANT = {word: name for name, words in _ELSEWHERE.items() for word in words.split()}

PAGE = """\
usage: osasis COMMAND ...

Show it one picture of a style; it redraws any photo in that style.

commands:
{commands}

examples:
  osasis demo                                     see what it does, in a few minutes
  osasis learn painting.jpg -o painting.osasis.safetensors
  osasis stylize photos/ --style painting.osasis.safetensors -o stylized/
  osasis studio                                   the same on a page in your browser

`osasis COMMAND --help` explains a command and its options; --debug, anywhere, shows the whole
traceback of an error; `osasis --version` prints the version.
"""


def page() -> str:
    """The page of commands."""
    shown = {name: about for name, (_, about) in COMMANDS.items() if not name.startswith("models ")}
    return PAGE.format(commands="\n".join(f"  {n:22}{about}" for n, about in shown.items()))


def _unknown(word: str) -> UserError:
    from difflib import get_close_matches

    names = [name for name in COMMANDS if not name.startswith("models ")]
    close = [MEANT[word]] if word in MEANT else get_close_matches(word, names, 1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    return UserError(
        f"there is no command {word!r}", hint=f"{meant}commands are {', '.join(names)}"
    )


def _without_common(argv: Sequence[str]) -> tuple[list[str], int | None]:
    """The words without options that every command has, and what `--threads` says."""
    end = argv.index("--") if "--" in argv else len(argv)
    words, threads = [word for word in argv[:end] if word != "--debug"], None
    for place, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == "--threads":
            value = value if sign else "".join(words[place + 1 : place + 2])
            if not value.isascii() or not value.isdigit() or int(value) == 0:
                raise UserError(f"--threads: {value!r} is not a whole number of 1 or more")
            threads = int(value)
            del words[place : place + (1 if sign else 2)]
            break
    return words + list(argv[end:]), threads


def parse(argv: Sequence[str]) -> Call:
    """Parse a command line.

    Raises:
        UserError: it names an unknown command or option, or an option's value is wrong.
        SystemExit: help or the version was asked for and is printed.
    """
    words, _ = _without_common(argv)
    if not words:
        raise UserError("there is no command", hint="osasis --help names them")
    if words[0] in ("--help", "-h"):
        print(page(), end="")
        raise SystemExit(0)
    if words[0] == "--version":
        print(f"osasis {__version__}")
        raise SystemExit(0)
    if words[0].startswith("-"):
        raise UserError(f"there is no option {words[0]}", hint="osasis --help")
    # `pretrain-evaluate` is `pretrain evaluate`
    words = [*words[0].split("-", 1), *words[1:]] if words[0] not in COMMANDS else words
    name = " ".join(words[:2])
    count = 2 if name in COMMANDS else 1
    if words[0] not in COMMANDS:
        raise _unknown(argv[0])
    name = " ".join(words[:count])
    if name == "models" and len(words) > 1 and not words[1].startswith("-"):
        actions = ", ".join(n.partition(" ")[2] for n in COMMANDS if n.startswith("models "))
        raise UserError(f"there is no action {words[1]!r} of models", hint=f"there are {actions}")
    from osasis.cli import app

    return app.parse(name, COMMANDS[name][0], words[count:])


def _report(message: str, hint: str, *, debug: bool) -> None:
    if debug:
        _print_traceback()
    say(f"error: {message}", sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _run(argv: Sequence[str]) -> int:
    try:
        if not argv:
            print(page(), end="")
            return UserError.exit_code
        call = parse(argv)
        from osasis.threads import keep_freed_memory, share_cores

        keep_freed_memory()
        share_cores(_without_common(argv)[1])
        return call()
    finally:
        sys.stdout.flush()  # a reader that has left shows here, `--help` included, and not at exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status.

    0: done; 1: it failed; 2: wrong use; 130: stopped with Ctrl-C or SIGTERM.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room there, or choose another place with -o" if full else ""
        _report(f"{error.strerror or error}{where}", hint, debug=debug)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort, so that nobody sees a traceback
        if debug:
            _print_traceback()
        summary = " ".join(str(error).split()) or type(error).__name__
        again = "" if debug else "; run again with --debug"
        print(f"internal error: {type(error).__name__}: {summary}{again}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
