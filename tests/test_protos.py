"""The protocol says what it means: every element documented, its numbers those of Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from grpc_tools import protoc

from calib import conventions, states
from calib.arbitrage import certificate
from calib.modelrisk.breakers import BreakerLevel
from calib.quotes import reasons
from calib.surface import marks
from calib.v1 import model_risk_pb2, quotes_pb2, surface_pb2, surface_service_pb2

PROTOS = Path(__file__).resolve().parent.parent / "protos"

# How the protobuf compiler numbers the parts of a file in its source locations.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE, SERVICE_METHOD = 2, 2

Path_ = tuple[int, ...]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Sequence[FileDescriptorProto]:
    """The project's protos as the compiler reads them, comments included."""
    out = tmp_path_factory.mktemp("protos") / "calib.pb"
    sources = [str(path) for path in sorted((PROTOS / "calib/v1").glob("*.proto"))]
    flags = [f"-I{PROTOS}", "--include_source_info", f"--descriptor_set_out={out}"]
    assert sources
    assert protoc.main(["protoc", *flags, f"-I{_google()}", *sources]) == 0
    return FileDescriptorSet.FromString(out.read_bytes()).file


def _google() -> Path:
    return Path(protoc.__file__).parent / "_proto"


def _messages(file: FileDescriptorProto) -> Iterator[tuple[Path_, str, DescriptorProto]]:
    pending: list[tuple[Path_, str, DescriptorProto]] = [
        ((FILE_MESSAGE, i), m.name, m) for i, m in enumerate(file.message_type)
    ]
    while pending:
        path, name, message = pending.pop()
        yield path, name, message
        pending += [
            ((*path, MESSAGE_NESTED, i), f"{name}.{m.name}", m)
            for i, m in enumerate(message.nested_type)
        ]


def _enums(file: FileDescriptorProto) -> Iterator[tuple[Path_, str, EnumDescriptorProto]]:
    yield from (((FILE_ENUM, i), e.name, e) for i, e in enumerate(file.enum_type))
    for path, name, message in _messages(file):
        for i, enum in enumerate(message.enum_type):
            yield (*path, MESSAGE_ENUM, i), f"{name}.{enum.name}", enum


def _fields(file: FileDescriptorProto) -> Iterator[tuple[Path_, str, FieldDescriptorProto]]:
    for path, name, message in _messages(file):
        for i, field in enumerate(message.field):
            yield (*path, MESSAGE_FIELD, i), f"{name}.{field.name}", field


def _elements(file: FileDescriptorProto) -> Iterator[tuple[Path_, str]]:
    """Everything that a reader of the protocol can name."""
    for path, name, message in _messages(file):
        yield path, name
        for i, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # the compiler makes one for each optional field
                yield (*path, MESSAGE_ONEOF, i), f"{name}.{oneof.name}"
    for path, name, _ in _fields(file):
        yield path, name
    for path, name, enum in _enums(file):
        yield path, name
        for i, value in enumerate(enum.value):
            yield (*path, ENUM_VALUE, i), value.name
    for i, service in enumerate(file.service):
        yield (FILE_SERVICE, i), service.name
        for j, method in enumerate(service.method):
            yield (FILE_SERVICE, i, SERVICE_METHOD, j), f"{service.name}.{method.name}"


def test_every_element_is_described_in_words(
    files: Sequence[FileDescriptorProto],
) -> None:
    missing = []
    for file in files:
        comments = {
            tuple(place.path): " ".join(place.leading_comments.split())
            for place in file.source_code_info.location
        }
        elements = list(_elements(file))
        assert elements
        missing += [name for path, name in elements if len(comments.get(path, "").split()) < 3]
    assert missing == []


def test_a_field_that_is_counted_in_something_says_in_what(
    files: Sequence[FileDescriptorProto],
) -> None:
    """Bare numbers whose name gives no unit away have it in the comment."""
    prices = {
        "QuoteBatch.strike",
        "QuoteBatch.forward",
        "QuoteBatch.spot",
        "TickBatch.forward",
        "TickBatch.spot",
        "Surface.spot",
        "ExpirySlice.forward",
        "ExpirySlice.forward_error",
        "EvaluateSurfaceRequest.strike",
        "EvaluateSurfaceResponse.forward",
        "Residuals.strike",
    }
    said: dict[str, str] = {}
    for file in files:
        comments = {tuple(p.path): p.leading_comments for p in file.source_code_info.location}
        said |= {name: " ".join(comments[path].split()) for path, name, _ in _fields(file)}
    assert [name for name in sorted(prices) if "quote currency" not in said[name]] == []


def test_no_field_is_unsigned(files: Sequence[FileDescriptorProto]) -> None:
    unsigned = {
        FieldDescriptorProto.TYPE_UINT32,
        FieldDescriptorProto.TYPE_UINT64,
        FieldDescriptorProto.TYPE_FIXED32,
        FieldDescriptorProto.TYPE_FIXED64,
    }
    assert [name for f in files for _, name, field in _fields(f) if field.type in unsigned] == []


def test_only_spot_is_optional_because_only_there_zero_differs_from_absent(
    files: Sequence[FileDescriptorProto],
) -> None:
    optional = {name for f in files for _, name, field in _fields(f) if field.proto3_optional}
    assert optional == {
        f"{name}.spot" for name in ("QuoteBatch", "TickBatch", "Surface", "SurfaceMove")
    }


def test_every_list_is_paged(files: Sequence[FileDescriptorProto]) -> None:
    fields = {name for f in files for _, name, _ in _fields(f)}
    lists = [
        m.name for f in files for s in f.service for m in s.method if m.name.startswith("List")
    ]
    assert lists
    for name in lists:
        assert {f"{name}Request.page_size", f"{name}Request.page_token"} <= fields
        assert f"{name}Response.next_page_token" in fields


@pytest.mark.parametrize(
    ("python", "proto"),
    [
        (reasons.Reason, quotes_pb2.RejectReason),
        (conventions.Unit, quotes_pb2.Unit),
        (conventions.Right, quotes_pb2.Right),
        (conventions.ExpiryCalendar, surface_pb2.ExpiryCalendar),
        (states.ModelName, surface_pb2.Model),
        (states.ForwardSource, surface_pb2.ForwardSource),
        (states.FitState, surface_pb2.FitState),
        (states.SurfaceState, surface_service_pb2.SurfaceState),
        (certificate.CertificateScope, surface_pb2.CertificateScope),
        (marks.MarkHandle, surface_pb2.MarkHandle),
    ],
)
def test_python_and_proto_enumerations_hold_the_same_names_and_numbers(
    python: type[IntEnum], proto: EnumTypeWrapper
) -> None:
    prefix = proto.Name(0).removesuffix("UNSPECIFIED")
    named = {name.removeprefix(prefix): number for name, number in proto.items() if number}
    assert named == {member.name: member.value for member in python if member.value}


def test_levels_are_one_more_on_the_wire_where_0_says_nothing() -> None:
    named = {name: number - 1 for name, number in model_risk_pb2.BreakerLevel.items() if number}
    assert named == {f"BREAKER_LEVEL_{level.name}": level.value for level in BreakerLevel}
