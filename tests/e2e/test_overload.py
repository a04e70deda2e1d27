"""More scans than the server can answer."""

from concurrent.futures import ThreadPoolExecutor

from imagelink import Client, DeadlineExceeded, ResourceExhausted, ScanResult

from tests.e2e.harness import RunningServer, Tenant
from tests.e2e.pictures import artworks, encoded, photo_of

FLOOD = 400


def scan(client: Client, photo: bytes) -> ScanResult | ResourceExhausted:
    try:
        return client.scan(photo)
    except ResourceExhausted as error:
        return error


def gives_up(client: Client, photo: bytes) -> bool:
    try:
        client.scan(photo)
    except DeadlineExceeded:
        return True
    return False


def with_poster(tenant: Tenant) -> Tenant:
    tenant.client.register(encoded(artworks()[0]), link="https://example.com", reference_id="one")
    return tenant


def test_a_flood_is_refused_in_part_and_leaves_other_publishers_alone(
    server: RunningServer,
) -> None:
    flooding, other = with_poster(server.tenant()), with_poster(server.tenant())
    photo = encoded(photo_of(artworks()[0]).photo)
    with ThreadPoolExecutor(FLOOD) as pool:
        # Several clients, as one connection carries a hundred calls at once.
        clients = [Client(server.target, key=flooding.scan_key, timeout=60) for _ in range(4)]
        scans = [pool.submit(scan, clients[n % 4], photo) for n in range(FLOOD)]
        quiet = [scan(other.client, photo) for _ in range(5)]
        outcomes = [each.result() for each in scans]
    for client in clients:
        client.close()
    refused = [each for each in outcomes if isinstance(each, ResourceExhausted)]
    answered = [each for each in outcomes if isinstance(each, ScanResult)]
    assert {(error.reason, error.retry_after) for error in refused} == {("OVERLOADED", 1.0)}
    assert len(answered) > 10
    for each in (*answered, *quiet):
        assert isinstance(each, ScanResult)
        assert [match.reference_id for match in each.matches] == ["one"]


def test_callers_that_give_up_leave_the_others_their_answers(server: RunningServer) -> None:
    tenant = with_poster(server.tenant())
    photo = encoded(photo_of(artworks()[0]).photo)
    hurried = [
        Client(server.target, key=tenant.scan_key, timeout=0.02 * number) for number in range(1, 21)
    ]
    with ThreadPoolExecutor(len(hurried) + 2) as pool:
        impatient = [pool.submit(gives_up, client, photo) for client in hurried * 3]
        patient = [pool.submit(tenant.client.scan, photo) for _ in range(6)]
        assert sum(each.result() for each in impatient) > 0
        for each in patient:
            assert [match.reference_id for match in each.result().matches] == ["one"]
    for client in hurried:
        client.close()
