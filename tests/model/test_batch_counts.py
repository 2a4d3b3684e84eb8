"""What is known of all batches of a model together: how many there were, how many inputs each takes."""

from __future__ import annotations

from fastserve.model.batches import Batches
from fastserve.model.batching import Batching


def test_batches_are_counted_by_their_size() -> None:
    batches = Batches(Batching(8))
    for inputs in (3, 3, 5):
        batches.count(inputs)
    assert batches.sizes == {3: 2, 5: 1}


def test_how_many_a_batch_takes_is_known_or_learned_if_the_model_measures_them() -> None:
    batches = Batches(Batching(8))
    assert batches.at_once == 8
    batches.size_of = len
    assert batches.at_once == 1
    for inputs in (2, 5, 3):
        batches.count(inputs)
    assert batches.at_once == 5
