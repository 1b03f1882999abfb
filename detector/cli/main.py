"""The parser over all commands, and what becomes of their errors: `python -m detector COMMAND --help` explains each command."""

from __future__ import annotations

import argparse
import os
import sys

from detector.cli import (
    audit,
    autoencoder,
    calibrate,
    evaluate,
    explain,
    generate,
    generator,
    heads,
    measure_maps,
    prepare,
    pretrain,
    report,
    score,
    select_descriptors,
    study,
    train,
)

# in the order of the help
COMMANDS = (
    score,
    report,
    explain,
    generate,
    train,
    calibrate,
    evaluate,
    audit,
    study,
    measure_maps,
    select_descriptors,
    prepare,
    pretrain,
    autoencoder,
    generator,
    heads,
)


SYSTEM_ERRORS = {
    FileNotFoundError: " was not found.",
    IsADirectoryError: " is a folder; name a file.",
    FileExistsError: " is a file, where a folder is needed.",
    NotADirectoryError: " lies below a file, where a folder is needed.",
    PermissionError: " may not be read or written.",
}


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="python -m detector",
        description="Why does a CLIP-based detector call an image "
        "AI-generated? Scores, trains and measures; needs no network with the embedded model.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


def sentence(error: Exception) -> str:
    """What an error says to the user; of the system's own errors with a file, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        words = next((words for kind, words in SYSTEM_ERRORS.items() if isinstance(error, kind)), f": {error.strerror}.")
        return f"'{os.fsdecode(error.filename)}'{words}"
    return str(error) or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Run one command. 0 only when all went well, 1 when something could not be done, 2 for unusable options."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:
        return 1
    except MemoryError:
        print("There is not enough memory for this.", file=sys.stderr)
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(sentence(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
