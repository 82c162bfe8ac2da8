"""`python -m testbed`."""

import sys
from pathlib import Path

try:
    from testbed.cli import main
except ModuleNotFoundError as error:
    # `sudo` drops the PATH of an activated environment and finds the system's Python.
    python = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"
    remedy = f"use: sudo {python} -m testbed" if python.exists() else "run `make setup` first"
    message = f"testbed: this Python ({sys.executable}) lacks {error.name}; {remedy} {' '.join(sys.argv[1:])}"
    sys.stderr.write(message.rstrip() + "\n")
    sys.exit(3)

main()
