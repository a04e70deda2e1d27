"""Candidates that are as rare among strangers as a test says."""

import math

import numpy as np

from indexing.appearance import Agreement
from indexing.decision import Candidate, ChannelCalibration, Evidence
from indexing.keypoints import Channel
from indexing.verification import Correspondences, Geometry

CALIBRATION = {
    channel: ChannelCalibration({"better_half_agreement": 1.0}, 0.0, 0.0, 1.0)
    for channel in Channel
}
SQUARE = np.array([[0, 0], [0.4, 0], [0.4, 0.4], [0, 0.4]], np.float32)


def candidate(reference: str, rarity: float, place: float = 0.0) -> Candidate:
    """A candidate of this rarity, ``place`` to the right and below the corner of the photo."""
    points = np.zeros((9, 2), np.float32)
    correspondences = Correspondences(points, points, np.ones(9, bool))
    geometry = Geometry(SQUARE + np.float32(place), correspondences, 9, 0.5, True)
    agreement = Agreement(0.0, rarity + math.log(len(Channel)))
    evidence = Evidence(Channel.ORB, 0.5, 0.5, geometry, agreement, 0.0)
    return Candidate(reference, f"https://example.com/{reference}", {}, evidence)
