"""Vectors as text, against Python's own JSON."""

import base64
import json

import numpy as np
import pytest

from service.core.errors import Undecodable
from service.vector_formats import base64_vectors, json_vectors, negotiate, to_openai

EXTREME = np.array(
    [0, -0.0, 1, -1, 0.1, 1 / 3, 1e-45, -1.1754944e-38, 3.4028235e38, 16_777_217, 123_456.79, 1e-7, 1e21, 5e-324],
    np.float32,
)


def test_numbers_are_exact() -> None:
    """What JSON's readers get, rounded to float32, is the vector to the bit, for every order of magnitude."""
    bits = np.random.default_rng(0).integers(0, 2**32, 65_536, dtype=np.uint32)
    values = bits.view(np.float32)
    vectors = np.stack([values[np.isfinite(values)][:60_000], np.resize(EXTREME, 60_000)])
    read = np.array([json.loads(row) for row in json_vectors(vectors)], np.float32)
    np.testing.assert_array_equal(read, vectors)


def test_numbers_are_short() -> None:
    """The shortest decimals that name the same float32, not those of the float64 beside it."""
    assert json_vectors(np.array([[0.1, 16_777_216, 0.33333334]], np.float32)) == ["[0.1,16777216.0,0.33333334]"]


def test_base64_is_little_endian_float32() -> None:
    """As OpenAI's clients read it, whatever the machine."""
    (encoded,) = base64_vectors(EXTREME[None])
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(json.loads(encoded)), "<f4"), EXTREME)


def test_messages_are_escaped() -> None:
    """JSON by hand is still JSON, whatever an error or a model's name holds."""
    outcomes = [Undecodable('a "quote", a \\ and a\nline'), EXTREME]
    answer = json.loads(to_openai(outcomes, model_id='m"', variant="int8", encoding_format="float"))
    assert (answer["model"], answer["data"][0]["error"]["message"]) == ('m"', 'a "quote", a \\ and a\nline')
    assert answer["usage"] == {"num_images": 2, "prompt_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, application/x-npy;q=0.9", "application/x-npy"),
        ("application/json, application/x-npy", "application/json"),
        ("Application/Vnd.Apache.Arrow.Stream", "application/vnd.apache.arrow.stream"),
        ("image/png", "application/json"),
    ],
)
def test_the_first_known_type_is_taken(accept: str, media_type: str) -> None:
    """JSON where a client names none of ours."""
    assert negotiate(accept) == media_type
