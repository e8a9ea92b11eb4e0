"""What cyclopts makes of a command's signature: parsing, help, completion; errors in our words."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from itertools import pairwise, zip_longest
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, Parameter
from cyclopts.argument import Argument
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from osasis.config.controls import FLAGS
from osasis.config.tables import ValueRefused
from osasis.errors import UserError

WIDTH = 80
# what people call options elsewhere
_ELSEWHERE = {
    "--style-strength": "--strength --weight --alpha --intensity --style-weight --amount",
    "--lambda-spn": "--structure --spn",
    "--output": "--out --output-dir --dest",
    "--device": "--gpu --cuda --cpu",
    "--base": "--model --checkpoint",
    "--iterations": "--steps --epochs",
    "--style": "--style-file",
    "--photos": "--content",
    "--force": "--overwrite",
    "--jobs": "--workers",
    "--fit": "--crop --align",
    "--mixed-precision": "--fp16 --bf16 --half",
    "--keep-colors": "--colors --preserve-color --preserve-colors",
}
MEANT = {word: name for name, words in _ELSEWHERE.items() for word in words.split()}
COMMON = """\
with every command:
  --threads N             processor cores to use (default: $OMP_NUM_THREADS, else
                          all it may use)
  --debug                 show the whole traceback of an error
"""
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Call:
    """A command and what it is called with."""

    function: Callable[..., int]
    bound: inspect.BoundArguments

    def __call__(self) -> int:
        """Run the command; returns the exit status."""
        return self.function(*self.bound.args, **self.bound.kwargs)

    @property
    def options(self) -> dict[str, Any]:
        """Every argument by name, defaults included."""
        self.bound.apply_defaults()
        return dict(self.bound.arguments)


def flag(name: str) -> str:
    """The option of a parameter or control."""
    return "--" + _option(name)


def _option(name: str) -> str:
    return FLAGS.get(name, name).strip("_").replace("_", "-")


def _shown(default: Any) -> str | None:
    """A default as help shows it; None where it says nothing."""
    if default is None or isinstance(default, (bool, tuple)) or default == "":
        return None
    return f"{default:g}" if isinstance(default, float) else f"{default}"


def app_of(command: str, place: str) -> App:
    """The parser of a command.

    Args:
        command: its name.
        place: 'module:function', the module below osasis.cli.
    """
    module, _, name = place.partition(":")
    function = getattr(import_module(f"osasis.cli.{module}"), name)
    return App(
        name=f"osasis {command}",
        default_command=function,
        help="",
        group_parameters="options",
        help_flags=(),
        version_flags=(),
        default_parameter=Parameter(
            negative=(), name_transform=_option, allow_repeating=True, show_default=_shown
        ),
    )


def parse(command: str, place: str, words: Sequence[str]) -> Call:
    """Parse the words after a command.

    Raises:
        UserError: an unknown option, or a value that it does not take.
        SystemExit: help was asked for and is printed.
    """
    app = app_of(command, place)
    if "-" in words:  # standard input, which would be read as an option
        words = [word for word in words if word != "-"] + ["--"] * ("--" not in words) + ["-"]
    options = words[: words.index("--")] if "--" in words else words
    if "--help" in options or "-h" in options:
        _print_help(app)
        raise SystemExit(0)
    more = f"osasis {command} --help explains the options"
    try:
        _refuse_fractions(app, options)
        function, bound, _ = app.parse_args(list(words), exit_on_error=False, print_error=False)
    except ValueRefused as error:
        raise UserError(f"{flag(error.field)} {error.problem}", hint=more) from error
    except UserError as error:
        raise UserError(str(error), hint=error.hint or more) from error
    except CycloptsError as error:
        raise UserError(
            _said(error, words), hint=_dashed(app, error, words) or _near(error) + more
        ) from error
    return Call(function, bound)


def _refuse_fractions(app: App, options: Sequence[str]) -> None:
    """Refuse 1.5 where a whole number belongs, which cyclopts would round.

    Raises:
        UserError: there is one.
    """
    for word, after in pairwise([*options, ""]):
        name, sign, value = word.partition("=")
        value = value if sign else after
        if not name.startswith("-") or not _is_rounded(value):
            continue
        for argument in app.assemble_argument_collection():
            kinds = get_args(argument.hint) or (argument.hint,)
            if name in argument.names and int in kinds and float not in kinds:
                raise UserError(f"{name}: {value!r} is not a whole number")


def _is_rounded(word: str) -> bool:
    """Whether cyclopts would round a word: what has a point and is a number, 2.5e0 too."""
    try:
        float(word)
    except ValueError:
        return False
    return "." in word


def _said(error: CycloptsError, words: Sequence[str]) -> str:
    argument, name = error.argument, ""
    if argument is not None:
        name = argument.name
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        place = list(words).index(word) if word in words else len(words)
        after = [next_ for next_ in words[place + 1 : place + 2] if not next_.startswith("-")]
        return f"there is no option {' '.join([word, *after])}"
    if isinstance(error, CoercionError) and error.token is not None:
        if error.msg is not None:
            return f"{name}: {error.msg}"
        value, kind = error.token.value, error.target_type
        if get_origin(kind) is Literal:
            known = ", ".join(map(repr, get_args(kind)))
            return f"{name}: {value!r} is not one of {known}"
        return f"{name}: {value!r} is not {_KINDS.get(kind, f'a {kind}')}"  # type: ignore[arg-type]
    if isinstance(error, ValidationError) and error.exception_message:
        return f"{name}: {error.exception_message}"
    if isinstance(error, MissingArgumentError):
        given = error.keyword is not None or bool(argument and argument.tokens)
        return f"{error.keyword or name} needs a value" if given else f"{name} is missing"
    if isinstance(error, UnusedCliTokensError):
        return f"too many arguments: {' '.join(error.unused_tokens or [])}"
    return str(error)


def _dashed(app: App, error: CycloptsError, words: Sequence[str]) -> str:
    """How a value or file is given whose name starts with a dash; empty where none was."""
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        return f"the file of that name is ./{word}" if Path(word).is_file() else ""
    option = error.keyword if isinstance(error, MissingArgumentError) else None
    after = words[words.index(option) + 1 :][:1] if option in words else []
    known = [name for argument in app.assemble_argument_collection() for name in argument.names]
    if not after or not after[0].startswith("-") or after[0].partition("=")[0] in known:
        return ""
    return f"a value that starts with a dash is joined to it: {option}={after[0]}"


def _near(error: CycloptsError) -> str:
    if not isinstance(error, UnknownOptionError):
        return ""
    known = [name for argument in error.argument_collection for name in argument.names]
    word = (error.token.keyword or error.token.value).partition("=")[0]
    meant = MEANT.get(word)
    close = [meant] if meant in known else difflib.get_close_matches(word, known, 1, cutoff=0.5)
    return f"did you mean {close[0]}? " if close else ""


def _print_help(app: App) -> None:
    """What a command is for, its usage, its options by group, examples.

    cyclopts' own page takes twice the time: it reads the source of every dataclass again, and rich.
    """
    text, _, examples = (inspect.getdoc(app.default_command) or "").partition("\n\nExamples:\n")
    about, _, args = text.partition("\n\nArgs:\n")
    print("\n\n".join(textwrap.fill(part, WIDTH) for part in about.split("\n\n")), end="\n\n")
    helps = _field_helps(app.default_command)
    helps |= re.findall(r"^    (\w+): ((?:.|\n {8})*)", args, re.MULTILINE)
    groups: dict[str, list[str]] = {"arguments": []}
    usage, positional = [f"usage: {app.name[0]}"], []
    for argument in app.assemble_argument_collection().filter_by(show=True):
        group: Any = argument.parameter.group
        lines = groups.setdefault(str(getattr(group[0], "name", group[0])).lower(), [])
        lines += _two_columns(argument, argument.parameter.help or helps[argument.field_info.name])
        if argument.index is not None:
            positional.append(argument.name if argument.required else f"[{argument.name}]")
        elif argument.required:
            usage.append(f"{argument.name} {_value(argument)}")
    options = ["[OPTIONS]"] if len(groups) > 1 else []
    print(" ".join([*usage, *options, *positional]), end="\n\n")
    for name in ("arguments", *sorted(groups.keys() - {"arguments"})):
        if groups[name]:
            print("\n".join([f"{name}:", *groups[name]]), end="\n\n")
    print(f"{COMMON}\nexamples:\n{examples.rstrip()}")


def _field_helps(function: Any) -> dict[str, str]:
    """What the fields of a command's groups of options do: the docstrings below them."""
    groups = [type(given.default) for given in inspect.signature(function).parameters.values()]
    modules = {part.__module__ for kind in groups if is_dataclass(kind) for part in kind.__mro__}
    found = {}
    for module in modules - {"builtins"}:
        classes = ast.parse(inspect.getsource(sys.modules[module])).body
        for node in (node for node in classes if isinstance(node, ast.ClassDef)):
            for field, said in pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr):
                    found[ast.unparse(field.target)] = str(ast.literal_eval(said.value))
    return found


def _two_columns(argument: Argument, text: str) -> list[str]:
    """An option to the left, what it does to the right."""
    names = sorted(argument.names, key=lambda name: name.startswith("--"))  # -o before --output
    left = f"  {', '.join(names)} {_value(argument)}".rstrip()
    text = " ".join(text.split()).rstrip(".")
    text = text[0].lower() + text[1:] if text[1:2].islower() else text
    default = argument.show_default and _shown(argument.field_info.default)
    column = textwrap.wrap(
        f"{text} (default: {default})" if default else text, WIDTH - 26, break_on_hyphens=False
    )
    if len(left) > 24:
        column = ["", *column]
    rows = zip_longest([left], column, fillvalue="")
    return [f"{name:26}{line}".rstrip() for name, line in rows]


def _value(argument: Argument) -> str:
    """What stands for an option's value; empty for a switch."""
    kind = argument.hint
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if argument.get_choices():
        return f"{{{','.join(argument.get_choices() or ())}}}"
    if kind is bool or argument.index is not None:
        return ""
    name = f"{get_args(kind)[0].__name__}..." if get_origin(kind) is list else kind.__name__
    return argument.parameter.metavar or name.upper()


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> int:
    """Print what makes a shell complete the commands and options of osasis.

    Args:
        shell: whose completion

    Examples:
      osasis completion bash > ~/.local/share/bash-completion/completions/osasis
      osasis completion zsh > ~/.zfunc/_osasis
          with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
      osasis completion fish > ~/.config/fish/completions/osasis.fish
    """
    print(whole_app().generate_completion(shell=shell))
    return 0


def whole_app() -> App:
    """All commands below one."""
    from osasis.cli.main import COMMANDS

    whole = App(name="osasis", version_flags=("--version",), help_format="plaintext")
    groups = {"": whole}
    for name, (place, about) in COMMANDS.items():
        first, _, last = name.rpartition(" ")
        groups[name] = app_of(name, place)
        groups[name].help = about
        groups[first].command(groups[name], name=last)
    return whole
