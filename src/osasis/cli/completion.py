"""`osasis completion`: what makes a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter


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
    from osasis.cli.app import app_of
    from osasis.cli.main import COMMANDS

    whole = App(name="osasis", version_flags=("--version",), help_format="plaintext")
    groups = {"": whole}
    for name, (place, about) in COMMANDS.items():
        first, _, last = name.rpartition(" ")
        groups[name] = app_of(name, place)
        groups[name].help = about
        groups[first].command(groups[name], name=last)
    return whole
