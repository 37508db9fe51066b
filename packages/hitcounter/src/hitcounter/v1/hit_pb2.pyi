from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class HitBatch(_message.Message):
    __slots__ = ("min_reader", "id_rule", "producer", "sequence", "base_time_ms", "ids", "time_offsets_ms", "weights", "keys", "traceparent")
    MIN_READER_FIELD_NUMBER: _ClassVar[int]
    ID_RULE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BASE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    TIME_OFFSETS_MS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    min_reader: int
    id_rule: int
    producer: bytes
    sequence: int
    base_time_ms: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    time_offsets_ms: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    traceparent: str
    def __init__(self, min_reader: _Optional[int] = ..., id_rule: _Optional[int] = ..., producer: _Optional[bytes] = ..., sequence: _Optional[int] = ..., base_time_ms: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ..., time_offsets_ms: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[int]] = ..., keys: _Optional[_Iterable[str]] = ..., traceparent: _Optional[str] = ...) -> None: ...
