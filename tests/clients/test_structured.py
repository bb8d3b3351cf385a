import dataclasses
import json

import httpx
import msgspec
import pytest

from clients import AsyncClient, Client
from clients.errors import ProtocolError
from clients.structured import schema


class City(msgspec.Struct):
    name: str
    num_people: int


@dataclasses.dataclass
class Route:
    start: City
    stops: list[City]


def transport(content: str, seen: list, finish_reason: str = "stop") -> httpx.MockTransport:
    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        choice = {"message": {"content": content}, "finish_reason": finish_reason}
        return httpx.Response(200, json={"choices": [choice]})

    return httpx.MockTransport(handle)


def test_an_answer_becomes_a_value_and_the_schema_goes_out():
    seen = []
    with Client("http://h", transport=transport('{"name": "Ulm", "num_people": 7}', seen)) as talk:
        assert talk.chat_as("Where?", City, max_tokens=9) == City("Ulm", 7)
    asked = seen[0]["response_format"]
    assert asked["json_schema"]["name"] == "City"
    assert asked["json_schema"]["schema"]["type"] == "object"
    assert seen[0]["max_tokens"] == 9


async def test_dataclasses_nest_and_the_async_client_reads_them_too():
    ulm = {"name": "Ulm", "num_people": 7}
    body = json.dumps({"start": ulm, "stops": [ulm]})
    async with AsyncClient("http://h", transport=transport(body, [])) as talk:
        assert await talk.chat_as("How?", Route) == Route(City("Ulm", 7), [City("Ulm", 7)])


def test_references_of_a_nested_type_stay_resolvable():
    found = schema(Route)
    assert found["type"] == "object"
    assert found["properties"]["start"] == {"$ref": "#/$defs/City"}
    assert found["$defs"]["City"]["type"] == "object"


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        ("Ulm is a city.", "stop", "no City"),
        ('{"name": "Ulm"}', "stop", "num_people"),
        ('{"name": "Ulm", "num_pe', "length", "cut off"),
    ],
)
def test_an_answer_that_is_no_such_value_says_why(content, reason, message):
    talk = Client("http://h", transport=transport(content, [], reason))
    with talk, pytest.raises(ProtocolError, match=message):
        talk.chat_as("Where?", City)
