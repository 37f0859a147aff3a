"""Types beside the outlines of any codec."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from datamodules.synthetic.images import generate
from postproc.codec import Codec, search_space
from postproc.codecs.binary import BinaryCodec
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.typed import TypedCodec
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

TYPES = 4
OUTLINES = {"distance": DistanceCodec(), "normalised": DistanceCodec("normalised"), "binary": BinaryCodec(split=True)}
every_codec = pytest.mark.parametrize("outlines", OUTLINES.values(), ids=OUTLINES.keys())


def truth(seed: int = 0, size: int = 160) -> Instances:
    return generate((size, size), np.random.default_rng(seed))[1]


def majority(found: Instances, types: np.ndarray) -> list[int]:
    """The plain definition: the most frequent type of a nucleus' px, background aside; the lower of two equal ones."""
    assert found.labels is not None
    winners = []
    for k in range(1, found.count + 1):
        votes = [int((types[found.labels == k] == t).sum()) for t in range(1, TYPES + 1)]
        winners.append(votes.index(max(votes)) + 1 if any(votes) else 0)
    return winners


@every_codec
def test_perfect_maps_give_each_nucleus_its_type(outlines: Codec) -> None:
    codec = TypedCodec(outlines, TYPES)
    true = truth()
    assert true.labels is not None
    assert true.types is not None
    found = codec.decode(codec.perfect(codec.encode(true)), codec.defaults())
    assert found.labels is not None
    assert found.types is not None
    right = 0
    for k in range(1, found.count + 1):
        below = np.bincount(true.labels[found.labels == k])
        right += int(found.types[k - 1] == true.types[below[1:].argmax()])
    assert found.count > 15
    assert right == found.count


@every_codec
def test_outlines_are_those_of_the_wrapped_codec_and_types_by_majority(outlines: Codec) -> None:
    codec = TypedCodec(outlines, TYPES)
    rng = np.random.default_rng(3)
    targets = codec.encode(truth(1))
    maps = codec.perfect(targets)
    maps["tp"] = rng.random((TYPES + 1, 160, 160)).astype(np.float32)  # px of all types mixed
    found = codec.decode(maps, codec.defaults())
    plain = outlines.decode({name: maps[name] for name in maps if name != "tp"}, outlines.defaults())
    np.testing.assert_array_equal(found.labels, plain.labels)
    assert plain.types is None
    assert found.types is not None
    assert found.types.tolist() == majority(found, maps["tp"].argmax(axis=0))
    region = codec.decode_region(maps, codec.defaults(), {})
    np.testing.assert_array_equal(region.labels, found.labels)
    np.testing.assert_array_equal(region.types, found.types)
    np.testing.assert_array_equal(codec.support(maps, codec.defaults()), outlines.support(maps, outlines.defaults()))


@every_codec
def test_parameters_and_surroundings_are_the_wrapped_codecs(outlines: Codec) -> None:
    codec = pickle.loads(pickle.dumps(TypedCodec(outlines, TYPES)))  # as worker processes receive it
    assert codec.params_type is outlines.params_type
    assert codec.surroundings == outlines.surroundings
    assert search_space(codec.params_type)
    assert codec.defaults() == outlines.defaults()
    assert TypedCodec.params_type is not outlines.params_type, "the class itself stays as it is"


def test_nothing_found_has_no_types() -> None:
    codec = TypedCodec(DistanceCodec(), 2)
    maps = {"distance": np.zeros((1, 8, 8), np.float32), "tp": np.ones((3, 8, 8), np.float32)}
    found = codec.decode(maps, codec.defaults())
    assert found.count == 0
    assert found.types is not None
    assert found.types.shape == (0,)


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(ConfigError, match="types is 0"):
        TypedCodec(DistanceCodec(), 0)
    bare = Instances((8, 8), labels=np.zeros((8, 8), np.int32))
    with pytest.raises(DataError, match="need types"):
        TypedCodec(DistanceCodec(), 2).encode(bare)
