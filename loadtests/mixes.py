"""Which calls users make, and how often."""

from collections.abc import Mapping

EVERYDAY = "everyday"

MIXES: Mapping[str, Mapping[str, int]] = {
    EVERYDAY: {
        "scan_registered": 78,
        "scan_stranger": 12,
        "list_references": 3,
        "register": 2,
        "scan_with_wrong_key": 2,
        "scan_no_image": 2,
        "scan_too_large": 1,
    },
    "scans": {"scan_registered": 85, "scan_stranger": 15},
    "cameras": {"scan_stream": 50, "scan_registered": 42, "scan_stranger": 8},
    "publishing": {
        "scan_registered": 40,
        "scan_stranger": 10,
        "list_references": 20,
        "register": 30,
    },
    "hostile": {
        "scan_registered": 40,
        "scan_stranger": 10,
        "scan_with_wrong_key": 20,
        "scan_no_image": 20,
        "scan_too_large": 10,
    },
}
"""By the mix's name: each task of a user and its weight. All mixes scan, so that accuracy is measured."""
