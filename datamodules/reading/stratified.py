"""Stratified split of groups, as `StratifiedShuffleSplit` of scikit-learn draws it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]


def stratified_test(strata: Sequence[str], share: float, seed: int) -> list[int] | None:
    """Return the test side of the first split that scikit-learn draws, with the rest of each stratum for training.

    Splits published as code depend on the order of the random draws, which is therefore scikit-learn's: numbers of
    training items of the strata, numbers of test items, then a permutation of each stratum in alphabetical order.

    Args:
        strata: Stratum of each item.
        share: Share of the items in the test side, in (0, 1); the others are the training side.
        seed: Seed of the generator, ``random_state`` of scikit-learn.

    Returns:
        Positions of the test items, ascending. None if scikit-learn would refuse: a stratum has one item, or a side
        has fewer items than there are strata.
    """
    if not strata:
        return None
    _, index, sizes = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    n_test = int(np.ceil(share * len(strata)))
    n_train = int(np.floor((1 - share) * len(strata)))
    if sizes.min() < 2 or min(n_test, n_train) < len(sizes):
        return None
    rng = np.random.RandomState(seed)  # the generator of scikit-learn
    train = _shares(sizes, n_train, rng)
    test = _shares(sizes - train, n_test, rng)
    found: list[int] = []
    for stratum, (first, last) in enumerate(zip(train, train + test, strict=True)):
        members = np.flatnonzero(index == stratum)[rng.permutation(sizes[stratum])]
        found += members[first:last].tolist()
    return sorted(found)


def _shares(sizes: _Ints, draws: int, rng: np.random.RandomState) -> _Ints:
    """Distribute draws over strata in proportion to their sizes; ties of the remainders are drawn."""
    exact = sizes / sizes.sum() * draws
    shares = np.floor(exact)
    missing = int(draws - shares.sum())
    for remainder in np.unique(exact - shares)[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(exact - np.floor(exact) == remainder)
        chosen = rng.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
    return np.asarray(shares, np.int64)


__all__ = ["stratified_test"]
