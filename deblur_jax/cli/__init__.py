"""The command line: one file per verb. A verb's heavy imports stand inside its `run`.

Exit codes: 0 done; 1 some inputs failed, the others are done; 2 nothing could start; 75 stopped by a
signal and resumable; 130 interrupted by Ctrl-C.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from deblur_jax import __version__
from deblur_jax.cli import (
    bench,
    blur,
    data,
    demo,
    edges,
    eval,
    export,
    live,
    models,
    restore,
    sharpness,
    train,
    weights,
)
from deblur_jax.cli.signals import Terminated, sent_again
from deblur_jax.errors import UserError

_VERBS = (restore, live, sharpness, models, weights, blur, edges, data, train, eval, export, bench, demo)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # One line, and where to read on; argparse would print the whole usage.
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="deblur", description="Image and video deblurring in JAX.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"deblur {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for module in _VERBS:
        name = module.__name__.rsplit(".", 1)[1]
        help_line = (module.__doc__ or "").strip().splitlines()[0]
        verb = verbs.add_parser(name, help=help_line, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(verb)
        verb.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    arguments, overrides = _config_overrides(list(sys.argv[1:] if arguments is None else arguments))
    options = _parser().parse_args(arguments)
    options.overrides = overrides
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no text; in JSON this is an escape, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # A closed standard output gets nothing, as with other commands.
        with sent_again(), contextlib.redirect_stdout(sys.stdout or open(os.devnull, "w")):
            code = options.run(options)
            sys.stdout.flush()
        return code
    except UserError as error:
        print(f"deblur {options.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        print(f"deblur {options.verb}: {'stopped by SIGTERM' if terminated else 'interrupted'}", file=sys.stderr)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Everything of ours is put away by now; XLA's threads may still compute, and crash an orderly exit.
        os._exit(75 if terminated else 130)
    except BrokenPipeError:
        # Whoever read our output has read enough (| head). Python would complain once more at exit.
        _abandon_stdout()
        return 0
    except OSError as error:
        # Most files that cannot be read or written are UserErrors; what names none is our own standard output.
        if error.filename is not None:
            name = error.filename if isinstance(error.filename, int) else os.fsdecode(error.filename)
            print(f"deblur {options.verb}: {name}: {error.strerror or error}", file=sys.stderr)
            return 2
        print(f"deblur {options.verb}: the output cannot be written: {error.strerror}", file=sys.stderr)
        _abandon_stdout()
        return 1


def _config_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """--config.NAME=VALUE (or as two words) is for any field of a config, which argparse cannot know."""
    if arguments[:1] not in (["train"], ["data"]):
        return arguments, []
    rest, overrides = [], []
    words = iter(arguments)
    for word in words:
        if not word.startswith("--config."):
            rest.append(word)
        elif "=" in word:
            overrides.append(word.removeprefix("--config."))
        else:
            overrides.append(f"{word.removeprefix('--config.')}={next(words, '')}")
    return rest, overrides


def _abandon_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
