import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.bench.fim_routes import FimRoute
from clients.bench.launch import Running
from clients.bench.peers import Peer
from clients.bench.rounds import Contender, Sample, rotated
from clients.bench.standing import standing


def sample(peer: str, number: int, rate: float | None, error: str | None = None) -> Sample:
    figures = {} if error else {"tokens_per_second": rate}
    return Sample(peer=peer, scenario="decode", round=number, figures=figures, error=error)


def test_a_cell_has_median_spread_and_the_median_of_the_ratios_of_its_rounds():
    rates = {"a": (10.0, 20.0, 40.0), "b": (20.0, 30.0, 40.0)}
    samples = [sample(p, n, rate) for p, values in rates.items() for n, rate in enumerate(values)]
    (row,) = standing(samples, ["a", "b"])
    assert row.cells["a"].ratio is None
    cell = row.cells["b"]
    assert (cell.median, cell.low, cell.high, cell.num_rounds) == (30.0, 20.0, 40.0, 3)
    assert cell.ratio == pytest.approx(1.5)


def test_a_failed_round_is_left_out_of_ratios_and_of_the_count():
    samples = [
        sample("a", 0, None, "OverloadedError"),
        sample("a", 1, 10.0),
        sample("b", 0, 90.0),
        sample("b", 1, 20.0),
    ]
    (row,) = standing(samples, ["a", "b"])
    assert row.cells["a"].num_rounds == 1
    assert row.cells["b"].ratio == 2.0


def test_what_a_peer_does_not_report_is_no_cell():
    (row,) = standing([sample("a", 0, 10.0), sample("b", 0, None)], ["a", "b"])
    assert set(row.cells) == {"a"}
    assert standing([sample("a", 0, None)], ["a"]) == []


@given(st.integers(1, 6), st.integers(0, 20))
def test_over_as_many_rounds_as_peers_each_has_every_place_once(num_peers, start):
    contenders = [
        Contender(
            server=Running(peer=Peer(name=str(number)), url=""),
            client=None,
            fim=FimRoute(kind="plain"),
        )
        for number in range(num_peers)
    ]
    orders = [[c.name for c in rotated(contenders, start + n)] for n in range(num_peers)]
    for place in range(num_peers):
        assert len({order[place] for order in orders}) == num_peers


def test_the_order_turns_by_one_a_round():
    contenders = [
        Contender(
            server=Running(peer=Peer(name=name), url=""), client=None, fim=FimRoute(kind="plain")
        )
        for name in "ABC"
    ]
    orders = ["".join(c.name for c in rotated(contenders, number)) for number in range(3)]
    assert orders == ["ABC", "CAB", "BCA"]
