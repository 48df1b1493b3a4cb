"""Checks of HTTP requests: whatever a body holds, it is refused by a sentence or sent on as it was checked."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from support.door_helpers import INPUTS

from tritone.door.refusal import Refused
from tritone.door.web.checks import MANY, check_generate, check_infer
from tritone.door.web.json_body import MOST_LISTS, PIECE, parse

MOST = 1 << 20


def infer(body: Any, end: int | None = None) -> Any:
    """Return the result of the checks on a body."""
    return check_infer(body if isinstance(body, bytes) else json.dumps(body).encode(), end, MOST)


def tensor(**changes: Any) -> dict[str, Any]:
    """Return a request with one input of three numbers; a change to None leaves a key out."""
    values = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2.5, -3], **changes}
    return {"inputs": [{key: value for key, value in values.items() if value is not None}]}


def refused(body: Any, end: int | None = None) -> str:
    """Return the sentence with which a body of `infer` is refused."""
    with pytest.raises(Refused) as error:
        infer(body, end)
    assert error.value.http == 400
    return str(error.value)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([1, 1 << 62], "has the shape [1, 4611686018427387904], which needs 18446744073709551616 bytes"),
        ([1, 1 << 61], "which needs 9223372036854775808 bytes; the limit is 1048576"),
        ([1 << 31, 1 << 31, 4], "which needs"),
        ([1, -3], "has the shape [1, -3]; sizes are 0 or more"),
        ([1, 2], "holds 3 values; its shape [1, 2] has room for 2"),
        ([0, 1 << 62], "which needs 0 bytes; the limit"),
        ([1] * 30 + [3], "has 31 dimensions; the limit is 8"),
        ([1, 1 << 64], "no shape that is a list of whole numbers of 64 bits"),
        ([10**4000] * 8, "no shape that is a list of whole numbers of 64 bits"),
        ([1, 3.0], "no shape that is a list of whole numbers of 64 bits"),
        ([True, 3], "no shape that is a list of whole numbers of 64 bits"),
        ("1,3", "no shape that is a list of whole numbers of 64 bits"),
        (None, "no shape that is a list of whole numbers of 64 bits"),
    ],
)
def test_a_shape_that_lies_is_refused(shape: Any, said: str) -> None:
    assert said in refused(tensor(shape=shape))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datatype": "FP31"}, "x: has the datatype 'FP31'; known are BYTES"),
        ({"datatype": None}, "a tensor has no datatype that is a text"),
        ({"name": None}, "a tensor has no name that is a text"),
        ({"name": "x" * 200}, "a tensor's name has 200 characters"),
        ({"data": None}, "x: has no data that is a list"),
        ({"data": [1, "2", 3]}, "x: has a value that is no FP32"),
        ({"data": [1, 1 << 64, 3]}, "x: has a value that is no FP32"),
        ({"data": [1, None, 3]}, "x: has a value that is no FP32"),
        ({"data": [1, True, 3]}, "x: has a value that is no FP32"),
        ({"datatype": "INT32", "data": [1, 2, 1 << 31]}, "x: has a value that is no INT32"),
        ({"datatype": "INT64", "data": [1, 2, 1.5]}, "x: has a value that is no INT64"),
        ({"datatype": "UINT8", "data": [1, 2, -1]}, "x: has a value that is no UINT8"),
        ({"data": [1, [2, 3]]}, "x: has lists beside values in its data"),
        ({"datatype": "BYTES"}, "x: has a value that is no BYTES"),
        ({"datatype": "BYTES", "shape": [1], "data": ["\ud800"]}, "x: is not valid Unicode"),
        ({"extra": 1}, "input x has the key 'extra'"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory is closed to clients"),
        ({"parameters": {"shared_memory_byte_size": 64}}, "shared memory is closed to clients"),
        ({"parameters": {"binary_data_size": 12}}, "binary_data_size of 12, with 0 bytes left"),
        ({"parameters": [1]}, "input x has parameters that are not a JSON object"),
    ],
)
def test_an_input_that_is_wrong_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    assert said in refused(tensor(**changes))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"id": 7}, "the request's id is not a text of at most 256 characters"),
        ({"id": "x" * 257}, "the request's id is not a text of at most 256 characters"),
        ({"parameters": {"headers": "x"}}, "the request has the parameter 'headers'"),
        ({"parameters": {"priority": [1]}}, "the request has the parameter 'priority' with the value [1]"),
        ({"parameters": {"priority": 1 << 64}}, "the request has the parameter 'priority' with the value"),
        ({"parameters": {"timeout": float("nan")}}, "the request has the parameter 'timeout' with the value nan"),
        ({"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "shared memory is closed"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "y: was sent more than once"),
        ({"outputs": {"name": "y"}}, "outputs is not a list of JSON objects"),
        ({"inputs": ["x"]}, "inputs is not a list of JSON objects"),
        ({"model_name": "voice"}, "the request has the key 'model_name'; known are id, parameters, inputs, outputs"),
    ],
)
def test_a_request_that_is_wrong_is_refused_by_name(more: dict[str, Any], said: str) -> None:
    assert said in refused({**tensor(), **more})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not valid JSON"),
        (b"[1]", "the body is not a JSON object"),
        (b"\xff{}", "the body is not valid JSON"),
        (json.dumps(tensor()).encode("utf-16"), "the body is not valid JSON"),
        (b'{"id":"a","id":"b"}', "a key comes twice in one object"),
        (b'{"inputs":[{"name":"x","name":"y"}]}', "a key comes twice in one object"),
        (b'{"a":' + b"[" * 90_000, "nested too deeply"),
        # Brackets within texts do not hide the depth.
        (b'{"a":' + b'["]",' * 20_000 + b"1" + b"]" * 20_000 + b"}", "nested too deeply"),
        (b'{"a":' + b'{"b":' * 20_000, "nested too deeply"),
        (b"[" * 200_000, f"the body has more than {MOST_LISTS} opening brackets"),
        (b"[" + b"[]," * MOST_LISTS + b"[]]", f"the body has more than {MOST_LISTS} opening brackets"),
        (b'{"a":' + b"9" * 5000 + b"}", "the body is not valid JSON"),
    ],
)
def test_json_that_parsers_choke_on_or_disagree_about_is_refused(body: bytes, said: str) -> None:
    assert said in refused(body)


def test_nested_data_is_bounded_by_the_rank() -> None:
    data: Any = [1]
    for _ in range(8):
        data = [data]
    assert "nested more than 8 deep" in refused(tensor(shape=[1], data=data))
    assert infer(tensor(shape=[1, 3], data=[[1, 2.5, -3]])).json == infer(tensor()).json


@pytest.mark.parametrize("values", ["1,,2", "1,", ",1", "1,2]"])
def test_long_lists_are_parsed_as_strictly_as_short_ones(values: str) -> None:
    long = ",".join(["1.5"] * PIECE)
    assert parse(f'{{"a":[{long}],"b":[[{long},2],["]",{long}]]}}'.encode())["b"][0][-1] == 2
    with pytest.raises(Refused, match="not valid JSON"):
        parse(f'{{"a":[{long},{values}]}}'.encode())
    with pytest.raises(Refused, match="not valid JSON"):
        parse(f'{{"a":[{values},{long}]}}'.encode())


def test_many_numbers_are_sent_on_in_binary() -> None:
    values = [0.1, float("nan"), 1e39, 7] * MANY
    checked = infer({"inputs": [tensor(shape=[len(values)], data=values)["inputs"][0], tensor(name="y")["inputs"][0]]})
    assert checked.binary == b"".join(
        struct.pack("<f", value) for value in (0.1, float("nan"), float("inf"), 7)
    ) * MANY  # fmt: skip
    first, second = json.loads(checked.json)["inputs"]
    assert first == {
        "name": "x", "datatype": "FP32", "shape": [4 * MANY], "parameters": {"binary_data_size": 16 * MANY}
    }  # fmt: skip
    assert second["data"] == [1, 2.5, -3]
    assert "x: has a value that is no FP32" in refused(tensor(shape=[MANY], data=[10**400] * MANY))


def test_binary_data_has_the_size_its_shape_needs() -> None:
    def sent(size: int, shape: list[int], data: bytes, datatype: str = "FP32") -> tuple[bytes, int]:
        text = json.dumps(tensor(shape=shape, datatype=datatype, data=None, parameters={"binary_data_size": size}))
        return text.encode() + data, len(text)

    assert infer(*sent(12, [1, 3], bytes(12))).binary == bytes(12)
    assert "holds 8 bytes; its shape needs 12" in refused(*sent(8, [1, 3], bytes(8)))
    assert "16 bytes follow the JSON; its inputs have 12" in refused(*sent(12, [1, 3], bytes(16)))
    assert "binary_data_size of 12, with 4 bytes left" in refused(*sent(12, [1, 3], bytes(4)))
    assert "binary_data_size of -1" in refused(*sent(-1, [1, 3], b""))
    assert "which needs" in refused(*sent(0, [1, 1 << 62], b""))
    assert "ends within text 1" in refused(*sent(8, [1], struct.pack("<I", 1 << 31) + b"abcd", "BYTES"))
    assert infer(*sent(9, [1], b"\5\0\0\0hello", "BYTES")).text == 9


def test_what_is_sent_is_what_was_checked_with_the_doors_id() -> None:
    checked = infer({**tensor(), "id": "mine", "parameters": {"sequence_id": 3}})
    assert (checked.client_id, checked.piece, checked.arriving, checked.binary) == ("mine", True, True, None)
    assert json.loads(checked.json_with("a-0")) == {"id": "a-0", **tensor(), "parameters": {"sequence_id": 3}}
    generate = check_generate(b'{"id":"x","speed":1}', INPUTS)
    assert json.loads(generate.json_with("a-0")) == {"id": "a-0", "speed": 1}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"target_text": None}, "target_text: is neither a text or number nor a list of them"),
        ({"target_text": {"a": 1}}, "target_text: is neither"),
        ({"seed": 1 << 64}, "seed: has a whole number of more than 64 bits"),
        ({"target_text": [["hello"]]}, "target_text: is neither"),
        ({"target_text": "\udfff"}, "target_text: is not valid Unicode"),
        ({"parameters": {"x": 1}}, "the request has the parameter 'x'"),
        ({}, "the request has no inputs; the model's are target_text, speed, seed"),
        ({"id": "x", "sequence_id": 1}, "the request has no inputs"),
        ({"text_input": "hello"}, "text_input: the model has no such input; its inputs are target_text, speed, seed"),
        ({"target_text": "hello", "speakr": "slt"}, "speakr: the model has no such input"),
        ({"speed": "1.5"}, 'speed: is "1.5"; the model takes a number without quotes (FP32)'),
        ({"speed": [1, "1.5"]}, 'speed: is "1.5"; the model takes a number'),
        ({"speed": True}, "speed: is true; the model takes a number without quotes (FP32)"),
        ({"seed": 1.5}, "seed: is 1.5; the model takes a whole number (INT64)"),
        ({"reference_wav_len": 1 << 31}, "reference_wav_len: is 2147483648, which INT32 cannot hold"),
        ({"target_text": 5}, "target_text: is 5; the model takes a text in quotes (BYTES)"),
        ({"quiet": 1}, "quiet: is 1; the model takes true or false (BOOL)"),
        ({"target_text": "hello", "sequence_id": {}}, "the request has the parameter 'sequence_id'"),
        ({str(number): 1 for number in range(33)}, "the request has 33 tensors; the limit is 32"),
        ({"id": ["x"]}, "the request's id is not a text"),
    ],
)
def test_generate_takes_flat_values_alone(body: Any, said: str) -> None:
    with pytest.raises(Refused) as error:
        check_generate(json.dumps(body).encode(), INPUTS)
    assert said in str(error.value)


def test_generate_says_how_long_its_text_is() -> None:
    checked = check_generate('{"target_text":["déjà"],"speed":1.5,"quiet":true,"sequence_id":2}'.encode(), INPUTS)
    assert (checked.text, checked.arriving) == (6, True)
