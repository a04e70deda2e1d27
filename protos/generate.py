"""Generates the Python code of the API: ``python protos/generate.py [OUTPUT_DIR]``."""

import sys
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
CHECKED_IN = PROTOS.parent / "clients" / "python"


def generate(output: Path) -> None:
    """Writes messages, services and their type stubs below ``output/imagelink/v1``."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}"]
    arguments += [f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    files = sorted(str(path) for path in PROTOS.glob("imagelink/v1/*.proto"))
    if protoc.main(arguments + files) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKED_IN)
