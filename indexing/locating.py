"""Where a reference image stands in a photo, from the photo's votes or a direct matching."""

import numpy as np

from indexing.keypoints import Channel, LocalFeatures
from indexing.verification import Geometry, one_to_one, refined, verify
from indexing.voting import Ints, Matched, match, nearest

# Votes that locate a reference with this significance need no direct matching.
CONVINCING_SIGNIFICANCE = 50.0

Located = tuple[Geometry, Ints]


def locate(
    query: LocalFeatures,
    reference: LocalFeatures,
    channel: Channel,
    votes: Matched,
    match_directly: bool,
) -> Geometry | None:
    """Where a reference image stands in a photo; None where too few matches agree on a place.

    The photo's votes for the image are its matches. With ``match_directly``, for float descriptors
    alone, the two are matched by themselves where the votes do not convince.
    """
    found = _located(query, reference, votes)
    if match_directly and not _convincing(found):
        matched = match(query.descriptors, reference.descriptors)
        found = _better(found, _located(query, reference, matched))
    return _settled(query, reference, channel, *found) if found is not None else None


def _located(query: LocalFeatures, reference: LocalFeatures, matched: Matched) -> Located | None:
    """The geometry, and the (query, place) pairs that it was fitted to, int64 [n, 2]."""
    pairs = np.stack(matched[:2], axis=1)[one_to_one(*matched)]
    geometry = verify(query.take(pairs[:, 0]), reference.take(pairs[:, 1]))
    return None if geometry is None else (geometry, pairs)


def _convincing(located: Located | None) -> bool:
    return (
        located is not None
        and located[0].plausible
        and located[0].significance >= CONVINCING_SIGNIFICANCE
    )


def _better(first: Located | None, second: Located | None) -> Located | None:
    found = [located for located in (first, second) if located is not None]
    return max(found, key=lambda each: (each[0].plausible, each[0].significance), default=None)


def _settled(
    query: LocalFeatures,
    reference: LocalFeatures,
    channel: Channel,
    geometry: Geometry,
    pairs: Ints,
) -> Geometry:
    """The geometry refined with what in the photo is most like each keypoint of the reference."""
    if not geometry.plausible:
        return geometry
    found = nearest(reference.descriptors, query.descriptors, channel)
    every = np.stack([found, np.arange(len(reference))], axis=1)
    pairs = np.unique(np.concatenate([pairs, every]), axis=0)
    return refined(geometry, query.take(pairs[:, 0]), reference.take(pairs[:, 1]))
