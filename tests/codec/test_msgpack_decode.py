"""Binary content in: what Truss's clients send is read as Truss reads it; anything else is a 400 and costs little."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import re
import subprocess
import sys
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.codec.msgpack_decode import decode_msgpack, refusal_without_msgpack
from fastserve.errors import RequestError
from tests.support.truss_payloads import TRUSS_PAYLOADS


def packed_array(**members: Any) -> bytes:
    """An array of two floats in msgpack-numpy's form, with some members changed; None leaves one out."""
    array = {"nd": True, "type": "<f4", "kind": b"", "shape": [2], "data": b"\0" * 8, **members}
    content: bytes = msgpack.packb({name.encode(): value for name, value in array.items() if value is not None})
    return content


def refused(content: bytes) -> str:
    """The message of the 400 that `content` is answered with."""
    with pytest.raises(RequestError) as caught:
        decode_msgpack(content)
    assert caught.value.status == 400
    assert caught.value.message.startswith("Invalid msgpack payload: ")
    return caught.value.message.removeprefix("Invalid msgpack payload: ")


def same(left: Any, right: Any) -> bool:
    """Equal, of equal type, and arrays of equal numbers, type and shape."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def as_lists(value: Any) -> Any:
    """`value` as it comes back: tuples as lists, and what is a kind of float or text as just that."""
    if isinstance(value, (list, tuple)):
        return [as_lists(inner) for inner in value]
    if isinstance(value, dict):
        return {key: as_lists(inner) for key, inner in value.items()}
    return value.item() if isinstance(value, (np.float64, np.str_)) else value


def has_number_keys(value: Any) -> bool:
    """Truss sends such maps and refuses to read them, since numbers can be made to collide."""
    return isinstance(value, dict) and any(isinstance(key, int) for key in value)


# --- what Truss reads ---


@pytest.mark.parametrize(
    "value, sent", [(value, sent) for value, sent in TRUSS_PAYLOADS if not has_number_keys(value)]
)
def test_what_truss_sends_is_read_as_it_was(value: Any, sent: str) -> None:
    content = bytes.fromhex(sent)
    decoded = decode_msgpack(content)
    if isinstance(value, (np.ndarray, np.generic)):  # also where msgpack-numpy names the gaps of a record
        assert same(decoded, msgpack_numpy.unpackb(content))
    if not isinstance(value, np.ndarray) or value.dtype.kind != "V":
        assert same(decoded, as_lists(value))


def test_a_zone_of_utc_is_read_on_every_python() -> None:
    when = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)
    for text in ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05+00:00"):
        assert decode_msgpack(msgpack.packb({b"__dt_datetime_iso__": True, b"data": text})) == when


@pytest.mark.parametrize(
    "dtype", ["?", "i1", ">u2", "<i4", "<i8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "m8[25s]"]
)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3)])
def test_arrays_of_every_type_and_shape_are_read(dtype: str, shape: tuple[int, ...]) -> None:
    array: Any = np.arange(math.prod(shape)).astype(dtype if dtype != "?" else bool).reshape(shape)
    content = packed_array(type=array.dtype.str, shape=shape, data=array.tobytes())
    assert same(decode_msgpack(content), array)


def test_arrays_of_text_are_read() -> None:
    arrays: list[Any] = [np.array(["a", "\U0010ffff"]), np.array(["ab"], dtype=">U3"), np.zeros(0, dtype="<U2")]
    for array in arrays:
        content = packed_array(type=array.dtype.str, shape=array.shape, data=array.tobytes())
        assert same(decode_msgpack(content), array)


def test_records_of_text_are_read() -> None:
    record: Any = np.zeros(3, dtype=[("n", "|i1"), ("a", ">U2", (2,)), ("b", [("c", "<U1")])])
    record["a"][1], record["b"]["c"] = ("a", "\U0010ffff"), "c"
    described = [["n", "|i1"], ["a", ">U2", [2]], ["b", [["c", "<U1"]]]]
    content = packed_array(type=described, kind=b"V", shape=record.shape, data=record.tobytes())
    assert (decode_msgpack(content) == record).all()


def test_types_by_their_names_are_read() -> None:
    for name in ("float32", b"<f4", ">f4", "f4"):
        assert decode_msgpack(packed_array(type=name)).dtype.kind == "f"


def test_arrays_are_read_only_views_of_what_was_received_as_with_truss() -> None:
    array = decode_msgpack(packed_array())
    assert not array.flags.writeable
    assert type(array.base) is bytes
    assert same(array, msgpack_numpy.unpackb(packed_array()))


@pytest.mark.parametrize(
    "members",
    [
        {b"__decimal__": True},
        {b"__uuid__": True, "data": "text, not bytes"},
        {b"nd": True, b"data": b""},
        {b"nd": True, b"data": b"", b"type": "<f4"},
        {b"nd": False, b"data": b""},
        {b"complex": True},
        {b"data": 1},
        {b"data": {b"data": {}}},
        {"nd": True, "data": b"", "type": "<f4", "shape": []},
    ],
)
def test_a_map_without_all_of_a_tag_is_a_map_as_with_truss(members: dict[bytes, Any]) -> None:
    assert decode_msgpack(msgpack.packb(members)) == members == msgpack_numpy.unpackb(msgpack.packb(members))


@pytest.mark.parametrize("size", [10, 1 << 20, 3 << 20])
def test_large_content_is_read_too(size: int) -> None:
    value = {"bytes": b"x" * size, "numbers": list(range(1000))}
    assert decode_msgpack(msgpack.packb(value)) == value


# --- what is refused ---


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "it ends too early"),
        (b"\x92\x01", "it ends too early"),
        (b"\xc6\xff\xff\xff\xffx", "it ends too early"),
        (b"\xdb\xff\xff\xff\xffx", "it ends too early"),
        (b"\xc9\xff\xff\xff\xf0\x01x", "it ends too early"),
        (b"\xc9\xff\xff\xff\xff\x01x", "."),
        (b"\xdd\xff\xff\xff\xff\x01", "it ends too early"),
        (b"\xdf\xff\xff\xff\xff\xa1a\x01", "it ends too early"),
        (msgpack.packb(b"x" * (2 << 20))[:-1], "it ends too early"),
        (b"\x92" + msgpack.packb(b"x" * (2 << 20)), "it ends too early"),
        (b"\x01\x02\x03", "2 bytes follow its end"),
        (b"{}", "1 bytes follow its end; it looks like JSON, whose Content-Type is application/json"),
        (b"[1]", "2 bytes follow its end; it looks like JSON, whose Content-Type is application/json"),
        (b"\xc1", "this is not msgpack"),
        (b"\xa1\xff", "text that is not UTF-8"),
        (b"\x91" * 5000 + b"\x01", "nested too deeply"),
        (b"\x81\x01\x02", "int is not allowed for map key"),
        (b"\x81\x90\x02", "list is not allowed for map key"),
        (b"\x81\x80\x02", "dict is not allowed for map key"),
        (b"\xd4\xff\x00", "."),  # a timestamp of one byte
        (b"\xd4\x85\x00", "."),  # an extension type below those that are for applications
    ],
)
def test_what_is_not_msgpack_is_refused(content: bytes, message: str) -> None:
    assert re.match(message, refused(content))


@pytest.mark.parametrize(
    "tag, wrong",
    [
        ("__dt_datetime_iso__", ["", "2024-13-01T00:00:00", 5, None, b"2024-01-02T03:04:05", [], {}]),
        ("__dt_date_iso__", ["", "2024-01-32", 5, None]),
        ("__dt_time_iso__", ["", "25:00:00", 5]),
        ("__dt_timedelta__", [[1], [1, 2, 3, 4], 5, ["a", 0, 0], [10**10, 0, 0], [math.nan, 0, 0], [math.inf, 0, 0]]),
        ("__decimal__", ["", "1.2.3", [1], {}, b"1"]),
        ("__uuid__", ["", "7", 7, None, b"x", []]),
        ("complex", ["", "1+", None, [], b"\xff", {}]),
    ],
)
def test_a_tag_with_the_wrong_data_is_refused_by_its_name(tag: str, wrong: list[Any]) -> None:
    for value in wrong:
        assert tag in refused(msgpack.packb([{tag.encode(): True, b"data": value}]))


@pytest.mark.parametrize(
    "members, message",
    [
        ({"shape": [3]}, "8 bytes of data do not make an array"),
        ({"shape": [1]}, "8 bytes of data do not make an array"),
        ({"shape": []}, "8 bytes of data do not make an array"),
        ({"shape": [2**62]}, "8 bytes of data do not make an array"),
        ({"shape": [2**64 - 1]}, "8 bytes of data do not make an array"),
        ({"shape": [2**32, 2**32, 2**32]}, "8 bytes of data do not make an array"),
        ({"shape": [0, 2**63 - 1], "data": b""}, "0 bytes of data do not make an array"),
        ({"shape": [1] * 100}, "8 bytes of data do not make an array"),
        ({"shape": [-2]}, "the shape of an array"),
        ({"shape": [2.0]}, "the shape of an array"),
        ({"shape": [True, 2]}, "the shape of an array"),
        ({"shape": 2}, "the shape of an array"),
        ({"shape": "2"}, "the shape of an array"),
        ({"data": "text"}, "the data of an array"),
        ({"data": [1, 2]}, "the data of an array"),
        ({"data": msgpack.ExtType(1, b"12345678")}, "the data of an array"),
        ({"type": "O"}, "the type of an array"),
        ({"type": "|O"}, "the type of an array"),
        ({"type": "object"}, "the type of an array"),
        ({"type": "f4,f4"}, "the type of an array"),
        ({"type": "(2,)f4"}, "the type of an array"),
        ({"type": "f5"}, "the type of an array"),
        ({"type": "M8[xx]"}, "the type of an array"),
        ({"type": "S9999999999"}, "the type of an array"),
        ({"type": b"\xff"}, "the type of an array"),
        ({"type": 5}, "the type of an array"),
        ({"type": {"a": 1}}, "the type of an array"),
        ({"type": []}, "the type of an array has no size"),
        ({"type": "V0", "shape": [2**62], "data": b""}, "the type of an array has no size"),
        ({"type": "S0", "shape": [2**62], "data": b""}, "the type of an array has no size"),
        ({"type": [["a", "f4", [0]]], "shape": [2**62], "data": b""}, "the type of an array has no size"),
        ({"type": [["a", "|O"]], "kind": b"V"}, "the type of an array"),
        ({"type": [["a", "<f4"], ["a", "<f4"]], "kind": b"V"}, "the type of an array"),
        ({"type": [["a"]], "kind": b"V"}, "the type of an array"),
        ({"type": [[1, "<f4"]], "kind": b"V"}, "the type of an array"),
        ({"type": [["a", "<f4", [1], [1]]], "kind": b"V"}, "the type of an array"),
        ({"type": [["a", "<f4", [2**31]]], "kind": b"V"}, "the type of an array"),
        ({"type": [["a", "<f4", 2]], "kind": b"V"}, "the type of an array"),
        ({"type": [[["title", "a"], "<f4"]], "kind": b"V"}, "the type of an array"),
        ({"type": "<U1", "data": b"\0\0\x11\0" * 2}, "an array of text"),
        ({"type": ">U1", "data": b"\0\x11\0\0" * 2}, "an array of text"),
        ({"type": "<U1", "data": b"\0\0\0\x01", "nd": False}, "an array of text"),
        ({"type": [["a", "<U2"]], "kind": b"V", "data": b"\xff" * 16}, "an array of text"),
        (
            {"type": [["n", "<i4"], ["a", ">U1"]], "kind": b"V", "data": b"\0\x11\0\0" * 2, "shape": []},
            "an array of text",
        ),
        (
            {"type": [["r", [["a", "<U1", [2]]]]], "kind": b"V", "data": b"\0\0\x11\0" * 2, "nd": False},
            "an array of text",
        ),
        ({"nd": False}, "8 bytes of data do not make"),
        ({"nd": False, "data": b""}, "0 bytes of data do not make"),
        ({"nd": False, "type": "O"}, "the type of an array"),
    ],
)
def test_an_array_that_does_not_add_up_is_refused(members: dict[str, Any], message: str) -> None:
    assert message in refused(packed_array(**members))


def test_a_type_nested_without_end_is_refused() -> None:
    described: Any = "<f4"
    for _ in range(200):
        described = [["a", described]]
    assert "the type of an array" in refused(packed_array(type=described, kind=b"V"))


class Touch:
    """Leaves a trace when it is unpickled."""

    was_unpickled = False

    def __reduce__(self) -> Any:
        return setattr, (Touch, "was_unpickled", True)


def test_a_pickle_is_never_read() -> None:
    for members in ({"kind": b"O", "type": "|O"}, {"kind": b"O"}, {"kind": "O", "type": "|O"}, {"type": "O"}):
        assert refused(packed_array(data=pickle.dumps(Touch()), **members))
    assert not Touch.was_unpickled


# --- any bytes ---


def check_any(content: bytes) -> None:
    try:
        decode_msgpack(content)
    except RequestError as refusal:
        assert refusal.status == 400
        assert refusal.message.startswith("Invalid msgpack payload: ")


@settings(max_examples=300)
@given(st.binary(max_size=60))
@example(b"\xdd\x00\x00\x00\x05" * 300)
def test_any_bytes_are_a_value_or_a_400(content: bytes) -> None:
    check_any(content)


VALID = [bytes.fromhex(sent) for _, sent in TRUSS_PAYLOADS]


@settings(max_examples=400)
@given(st.sampled_from(VALID), st.integers(0), st.integers(0, 5), st.binary(max_size=5))
def test_any_change_of_what_truss_sends_is_a_value_or_a_400(content: bytes, at: int, cut: int, put: bytes) -> None:
    at %= len(content)
    check_any(content[:at] + put + content[at + cut :])


TAGS = ["__dt_datetime_iso__", "__dt_date_iso__", "__dt_time_iso__", "__dt_timedelta__", "__decimal__", "__uuid__"]
MEMBER_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=16)
    | st.sampled_from(["<f4", "|b1", "<U2", "|S3", "|V4", "<M8[ns]", "1.5", "2024-01-02", "1+2j", b"V", b"O", b""]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [b"nd", b"type", b"kind", b"shape", b"data", b"complex", *(tag.encode() for tag in TAGS)]
            ),
            values,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(MEMBER_VALUES)
def test_any_use_of_the_tags_is_a_value_or_a_400(value: Any) -> None:
    check_any(msgpack.packb(value))


@settings(max_examples=300)
@given(
    st.fixed_dictionaries(
        {
            b"nd": st.sampled_from([True, True, False]),
            b"type": st.sampled_from(["<f4", "|u1", "<U1", "|V2"])
            | st.lists(st.tuples(st.text(max_size=2), st.sampled_from(["<f4", "|u1"])), max_size=3)
            | MEMBER_VALUES,
            b"kind": st.sampled_from([b"", b"V"]) | MEMBER_VALUES,
            b"shape": st.lists(st.integers(0, 4) | st.integers(0, 2**64 - 1), max_size=3) | MEMBER_VALUES,
            b"data": st.binary(max_size=32) | MEMBER_VALUES,
        }
    )
)
def test_any_array_is_an_array_or_a_400(members: dict[bytes, Any]) -> None:
    check_any(msgpack.packb(members))


# --- what it costs ---

# The size of the process must not follow what is promised: run in one of its own. (getrusage would begin with the
# parent's.)
PROMISES = """
import re, struct
from fastserve.codec.msgpack_decode import decode_msgpack
from fastserve.errors import RequestError
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
def refuse(content):
    try: decode_msgpack(content)
    except RequestError as error: return error.status
import msgpack, numpy
before = peak()
size = 1 << 20
promise = b"\\xdd" + struct.pack(">I", size - 1)
for content in (
    (promise * 1000).ljust(size, b"\\xc0"),
    b"\\xdd\\xff\\xff\\xff\\xff" * 500,
    (b"\\xdf" + struct.pack(">I", size // 2 - 1) + b"\\xa1a") * 1000,
    b"\\xc6\\xff\\xff\\xff\\xff",
    msgpack.packb({b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [2**40], b"data": b""}),
):
    assert refuse(content) == 400
print(peak() - before)
"""


def test_memory_does_not_follow_what_is_promised() -> None:
    done = subprocess.run([sys.executable, "-c", PROMISES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 1024, f"{done.stdout} KiB for contents of 1 MiB"


# --- without the packages ---


def test_the_extra_is_there() -> None:
    refusal_without_msgpack.cache_clear()
    assert refusal_without_msgpack() is None


def test_without_the_extra_the_415_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refusal_without_msgpack.cache_clear()
    refusal = refusal_without_msgpack()
    refusal_without_msgpack.cache_clear()
    assert refusal is not None
    assert refusal.status == 415
    assert "pip install 'fastserve[msgpack]'" in refusal.message
    assert refusal.fields == (("Accept", "application/json"),)


def test_an_array_without_numpy_is_a_415(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert decode_msgpack(msgpack.packb({"a": 1})) == {"a": 1}
    with pytest.raises(RequestError, match="numpy is not installed") as caught:
        decode_msgpack(packed_array())
    assert caught.value.status == 415


def test_numpy_is_imported_for_an_array_and_not_before() -> None:
    source = (
        "import sys, msgpack\n"
        "from fastserve.codec.msgpack_decode import decode_msgpack, refusal_without_msgpack\n"
        "from fastserve.codec.msgpack_encode import encode_msgpack\n"
        "assert refusal_without_msgpack() is None\n"
        "assert encode_msgpack([decode_msgpack(b'\\x81\\xa1a\\x01')]) == [b'\\x81\\xa1a\\x01']\n"
        "assert 'numpy' not in sys.modules and 'decimal' not in sys.modules\n"
        f"assert decode_msgpack({packed_array()!r}).shape == (2,)\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)
