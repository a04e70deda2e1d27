"""Generates the Python code of the API: ``python protos/generate.py [OUTPUT_DIR]``."""

import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent
CHECKED_IN = PROTOS.parent / "clients" / "python"
PACKAGE = Path("imagelink", "v1")
FILES = sorted(PROTOS.joinpath(PACKAGE).glob("*.proto"))


def generate(output: Path) -> None:
    """Writes messages, services and their type stubs into ``output/imagelink/v1``."""
    package = output / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    for old in package.glob("*_pb2*.py*"):
        old.unlink()
    # Files without a service would get empty modules of services.
    services = [file for file in FILES if re.search(r"^service ", file.read_text(), re.MULTILINE)]
    run_protoc([f"--python_out={output}", f"--mypy_out={output}"], FILES)
    run_protoc([f"--grpc_python_out={output}", f"--mypy_grpc_out={output}"], services)


def run_protoc(options: Iterable[str], files: Iterable[Path]) -> None:
    """Runs protoc with the plugins of this Python's environment."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = Path(status_pb2.__file__).parents[2]
    scripts = Path(sysconfig.get_path("scripts"))
    plugins = [f"--plugin={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}", f"-I{common}"]
    arguments += [*plugins, *options, *map(str, files)]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKED_IN)
