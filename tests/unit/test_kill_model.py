from collections import Counter

from benchmarks.kill_model import Gallery, Seen, percentile
from benchmarks.kill_traffic import Counts


def gallery() -> Gallery:
    """One whose poster was registered, changed and deleted, and registered again."""
    made = Gallery()
    for version, link in enumerate(("a", "b", None, "c"), start=1):
        made.wrote(version, "poster", link)
    return made


def test_an_answer_of_any_state_that_was_is_right() -> None:
    made = gallery()
    for version, links in ((0, {}), (1, {"poster": "a"}), (2, {"poster": "b"}), (3, {})):
        made.saw(Seen("poster", 0, version, version - 1, links))
    assert made.wrong() == []


def test_an_older_link_a_missed_and_a_foreign_reference_are_wrong() -> None:
    made = gallery()
    for links in ({"poster": "a"}, {}, {"poster": "c", "other": "x"}):
        made.saw(Seen("poster", 4, 4, 4, links))
    assert len(made.wrong()) == 3


def test_an_answer_may_have_what_was_written_during_the_scan_and_nothing_later() -> None:
    made = gallery()
    made.saw(Seen("poster", 1, 1, 1, {"poster": "b"}))
    assert made.wrong() == []
    made.saw(Seen("poster", 1, 1, 1, {"poster": "c"}))
    assert len(made.wrong()) == 1


def test_an_answer_older_than_its_token_or_of_a_version_that_never_was_is_wrong() -> None:
    made = gallery()
    made.saw(Seen("poster", 2, 1, 1, {"poster": "a"}))
    made.saw(Seen("poster", 0, 5, 5, {"poster": "c"}))
    assert [problem.split(" to ")[0] for problem in made.wrong()] == [
        "version 1 was answered",
        "version 5 never was",
    ]


def test_what_was_acknowledged_must_be_listed_and_nothing_else() -> None:
    made = gallery()
    assert made.lost({"poster": "c"}) == []
    assert made.lost({}) == ["poster"]
    assert made.lost({"poster": "b"}) == ["poster"]
    assert made.lost({"poster": "c", "deleted": "x"}) == ["deleted"]


def test_percentile_is_a_value_that_was_seen() -> None:
    assert [percentile([3, 1, 2], share) for share in (0, 0.5, 0.95)] == [1, 2, 3]


def test_what_was_counted_between_two_moments() -> None:
    now = Counts()
    now.add(Counts(2, 1, Counter(late=1), Counter()))
    before = Counts()
    before.add(now)
    now.add(Counts(5, 4, Counter(late=2, away=1), Counter(away=3)))
    assert now.since(before) == Counts(5, 4, Counter(late=2, away=1), Counter(away=3))
    assert before == Counts(2, 1, Counter(late=1), Counter())
