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
        print(f"{type(error).__name__ if not str(error) else str(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
