"""`python -m cgloop.validate`: validation in a process of its own, because pymbar imports JAX and may switch it to
float64."""

import argparse
import sys
from pathlib import Path

from cgloop.config import load_config
from cgloop.console import setup_logging
from cgloop.errors import ExitCode, Interrupted, UserError
from cgloop.interrupt import stop_on_signals


def main(arguments: list[str] | None = None) -> int:
    """Validate a run; a mistake of the user is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m cgloop.validate", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="resolved config, YAML or JSON")
    parser.add_argument("--md", type=Path, required=True, help="folder with md.json")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--parity", type=Path, required=True, help="parity.json")
    parser.add_argument("--train", type=Path, required=True, help="folder with forces.json")
    parser.add_argument("--control", type=Path, help="folder with control.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and plots.json")
    chosen = parser.parse_args(arguments)
    setup_logging(-1)
    try:
        with stop_on_signals():
            from cgloop.validate.run import validate_run

            folders = (chosen.md, chosen.dataset, chosen.parity, chosen.train, chosen.out, chosen.control)
            validate_run(load_config(chosen.config), *folders)
    except UserError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_INPUT
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return ExitCode.PASS


if __name__ == "__main__":
    sys.exit(main())
