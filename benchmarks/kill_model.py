"""What publishers wrote and what scans saw, and whether the two agree."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# The link of each reference by its id.
Contents = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seen:
    """A scan's answer: the gallery version it carried and got, and the links by reference.

    ``latest`` is the version that was acknowledged when it came: a scan sees all up to the version
    that it names, and may see what is written while it goes on.
    """

    picture: str
    token: int
    version: int
    latest: int
    links: Contents


@dataclass(slots=True)
class Gallery:
    """One publisher's gallery as its only writer knows it: every state that it ever had.

    Each picture is registered under its own name, once at most.
    """

    version: int = 0
    states: dict[int, Contents] = field(default_factory=lambda: {0: {}})
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def contents(self) -> dict[str, str]:
        """The references and links that were acknowledged last."""
        return dict(self.states[self.version])

    def wrote(self, version: int, reference: str, link: str | None) -> None:
        """Notes the state after a write: the link of a reference, or None where it is gone."""
        contents = self.contents
        if link is None:
            contents.pop(reference, None)
        else:
            contents[reference] = link
        with self.lock:
            self.states[version] = contents
            self.version = version

    def saw(self, seen: Seen) -> None:
        """Notes a scan's answer."""
        with self.lock:
            self.seen.append(seen)

    def wrong(self) -> list[str]:
        """What is wrong with the answers, a sentence each."""
        found = (_wrong(each, self.states) for each in self.seen)
        return [problem for problem in found if problem]

    def lost(self, listed: Contents) -> list[str]:
        """The references that are not there as they were acknowledged, or there though deleted."""
        return sorted(
            name
            for name in {*self.contents, *listed}
            if self.contents.get(name) != listed.get(name)
        )


def _wrong(seen: Seen, states: Mapping[int, Contents]) -> str | None:
    if seen.version < seen.token:
        return f"version {seen.version} was answered to a scan that asked for {seen.token}"
    if seen.version not in states:
        return f"version {seen.version} never was"
    # One write more may be on its way.
    possible = [
        {name: link for name, link in states[version].items() if name == seen.picture}
        for version in range(seen.version, seen.latest + 2)
        if version in states
    ]
    if dict(seen.links) not in possible:
        return f"{seen.picture} at version {seen.version}: {dict(seen.links)}, none of {possible}"
    return None


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
