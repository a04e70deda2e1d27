"""The API's definitions: their style, their comments, and whether the generated code is theirs."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from imagelink.v1.error_reason_pb2 import ErrorReason

from server.status import INTERNAL, STATUSES

ROOT = Path(__file__).parents[2]
UPPER_CAMEL = re.compile(r"([A-Z][a-z0-9]+)+")
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
STATUS = re.compile(
    r"\b(INVALID_ARGUMENT|NOT_FOUND|ALREADY_EXISTS|UNAUTHENTICATED|PERMISSION_DENIED"
    r"|FAILED_PRECONDITION|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|UNAVAILABLE|INTERNAL|DATA_LOSS)\b"
)
# Field numbers in descriptor.proto, of which the paths of comments are made.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS, NESTED_MESSAGES, NESTED_ENUMS, VALUES, METHODS = 2, 3, 4, 2, 2


@dataclass(frozen=True)
class Element:
    """A message, field, enum, value, service or method, and the comment before it."""

    kind: str
    name: str
    comment: str
    parent: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.parent}{'.' if self.parent else ''}{self.name}"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "protos" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(
    generator: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> list[FileDescriptorProto]:
    """The definitions of the API, with comments."""
    output = tmp_path_factory.mktemp("protos") / "api.pb"
    generator.run_protoc(
        [f"--descriptor_set_out={output}", "--include_source_info"], generator.FILES
    )
    return list(FileDescriptorSet.FromString(output.read_bytes()).file)


@pytest.fixture(scope="module")
def elements(files: list[FileDescriptorProto]) -> list[Element]:
    return [element for file in files for element in _elements(file)]


def test_generated_code_is_fresh(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)
    fresh = _generated(tmp_path / generator.PACKAGE)
    checked_in = _generated(generator.CHECKED_IN / generator.PACKAGE)
    assert sorted(fresh) == sorted(checked_in), "run 'make generate'"
    stale = [name for name, code in fresh.items() if checked_in[name] != code]
    assert stale == [], "run 'make generate'"


def test_client_demands_the_runtime_that_the_generated_code_demands(generator: ModuleType) -> None:
    code = "".join(_generated(generator.CHECKED_IN / generator.PACKAGE).values())
    protobuf = set(re.findall(r"^# Protobuf Python Version: (\S+)$", code, re.MULTILINE))
    grpcio = set(re.findall(r"^GRPC_GENERATED_VERSION = '(\S+)'$", code, re.MULTILINE))
    project = tomllib.loads((generator.CHECKED_IN / "pyproject.toml").read_text())["project"]
    needed = {f"protobuf>={version}" for version in protobuf}
    needed |= {f"grpcio>={version}" for version in grpcio}
    assert len(needed) == 2
    assert needed <= set(project["dependencies"])


def test_everything_is_commented(elements: list[Element]) -> None:
    assert len(elements) > 100
    assert [str(element) for element in elements if not element.comment.strip()] == []


def test_comments_are_sentences(elements: list[Element]) -> None:
    unfinished = [str(e) for e in elements if not e.comment.strip().endswith((".", ":"))]
    assert unfinished == []


def test_names_follow_the_style_guide(elements: list[Element]) -> None:
    styles = {
        "message": UPPER_CAMEL,
        "enum": UPPER_CAMEL,
        "service": UPPER_CAMEL,
        "method": UPPER_CAMEL,
        "field": SNAKE,
        "value": UPPER_SNAKE,
    }
    assert [str(e) for e in elements if not styles[e.kind].fullmatch(e.name)] == []


def test_repeated_fields_are_plural(files: list[FileDescriptorProto]) -> None:
    fields = [
        (message.name, field.name)
        for file in files
        for message in file.message_type
        for field in message.field
        if field.label == field.LABEL_REPEATED and not _is_map(message, field.type_name)
    ]
    assert [names for names in fields if not names[1].endswith("s")] == []


def test_package_is_the_directory(files: list[FileDescriptorProto]) -> None:
    for file in files:
        assert file.package.replace(".", "/") == str(Path(file.name).parent), file.name
        assert re.fullmatch(r"[a-z.]+\.v[0-9]+", file.package), file.name
        assert file.syntax == "proto3", file.name
        assert SNAKE.fullmatch(Path(file.name).stem), file.name


def test_enum_values_have_the_prefix_of_their_enum(files: list[FileDescriptorProto]) -> None:
    for enum in (enum for file in files for enum in _enums(file)):
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
        names = {value.number: value.name for value in enum.value}
        assert names[0] == f"{prefix}UNSPECIFIED"
        assert len(names) == len(enum.value), f"{enum.name} has aliases"
        assert [name for name in names.values() if not name.startswith(prefix)] == []


def test_methods_take_and_answer_their_own_messages(files: list[FileDescriptorProto]) -> None:
    taken = []
    for method in (m for file in files for service in file.service for m in service.method):
        request, answer = (name.rsplit(".")[-1] for name in (method.input_type, method.output_type))
        assert request == f"{method.name}Request"
        if answer != f"{method.name}Response":
            assert method.name.endswith(answer), (
                f"{method.name} answers neither its response nor its resource"
            )
        taken.append(request)
    assert len(taken) == len(set(taken))


def test_requests_and_responses_belong_to_a_method(files: list[FileDescriptorProto]) -> None:
    methods = {m.name for file in files for service in file.service for m in service.method}
    messages = [message.name for file in files for message in file.message_type]
    suffixed = [name for name in messages if name.endswith(("Request", "Response"))]
    assert [n for n in suffixed if re.sub(r"(Request|Response)$", "", n) not in methods] == []


def test_methods_list_their_statuses(elements: list[Element]) -> None:
    methods = [element for element in elements if element.kind == "method"]
    missing = [str(m) for m in methods if not re.search(r"Statuses: [A-Z_]+", m.comment)]
    assert missing == []


def test_error_reasons_are_those_of_the_status_table() -> None:
    declared = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    sent = [reason for _, reason in [*STATUSES.values(), INTERNAL]]
    assert declared - {"UNSPECIFIED"} == set(sent)
    assert len(sent) == len(set(sent)), "two errors with one reason"


def test_comments_of_error_reasons_name_their_status(elements: list[Element]) -> None:
    comments = {e.name: e.comment for e in elements if e.parent == "ErrorReason"}
    for code, reason in [*STATUSES.values(), INTERNAL]:
        found = STATUS.match(comments[f"ERROR_REASON_{reason}"].strip())
        assert found is not None, reason
        assert found[0] == code.name, reason


def _generated(package: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in package.glob("*_pb2*.py*")}


def _enums(file: FileDescriptorProto) -> Iterator[EnumDescriptorProto]:
    yield from file.enum_type
    for message in file.message_type:
        yield from message.enum_type


def _is_map(message: DescriptorProto, type_name: str) -> bool:
    name = type_name.rsplit(".")[-1]
    return any(nested.name == name and nested.options.map_entry for nested in message.nested_type)


class _Comments:
    """Looks up the comments of one file's elements."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }

    def element(self, kind: str, name: str, path: tuple[int, ...], parent: str = "") -> Element:
        return Element(kind, name, self._by_path.get(path, ""), parent)


def _elements(file: FileDescriptorProto) -> Iterator[Element]:
    comments = _Comments(file)
    for index, message in enumerate(file.message_type):
        yield from _message_elements(comments, message, (MESSAGES, index))
    for index, enum in enumerate(file.enum_type):
        yield from _enum_elements(comments, enum, (ENUMS, index))
    for index, service in enumerate(file.service):
        yield from _service_elements(comments, service, (SERVICES, index))


def _message_elements(
    comments: _Comments, message: DescriptorProto, path: tuple[int, ...]
) -> Iterator[Element]:
    if message.options.map_entry:
        return
    yield comments.element("message", message.name, path)
    for index, field in enumerate(message.field):
        yield comments.element("field", field.name, (*path, FIELDS, index), message.name)
    for index, nested in enumerate(message.nested_type):
        yield from _message_elements(comments, nested, (*path, NESTED_MESSAGES, index))
    for index, enum in enumerate(message.enum_type):
        yield from _enum_elements(comments, enum, (*path, NESTED_ENUMS, index))


def _enum_elements(
    comments: _Comments, enum: EnumDescriptorProto, path: tuple[int, ...]
) -> Iterator[Element]:
    yield comments.element("enum", enum.name, path)
    for index, value in enumerate(enum.value):
        yield comments.element("value", value.name, (*path, VALUES, index), enum.name)


def _service_elements(
    comments: _Comments, service: ServiceDescriptorProto, path: tuple[int, ...]
) -> Iterator[Element]:
    yield comments.element("service", service.name, path)
    for index, method in enumerate(service.method):
        yield comments.element("method", method.name, (*path, METHODS, index), service.name)
