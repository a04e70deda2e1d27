"""Which shard a publisher lives on, by rendezvous hashing (Thaler and Ravishankar, 1998)."""

import hashlib


def shard_of(publisher: str, shards: int) -> int:
    """The number of the publisher's shard, from 0 to ``shards`` - 1.

    With one shard more, only the publishers that move to it move.
    """
    return max(range(shards), key=lambda shard: _score(publisher, shard))


def _score(publisher: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}/{publisher}".encode(), digest_size=8).digest()
