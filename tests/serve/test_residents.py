"""Models in memory: one load for many, a budget that holds, nothing taken from who uses it."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.errors import EngineClosedError, ModelsBusyError, ModelTooLargeError
from serve.residents import FOREVER, Residents, State

SIZES = {"small": 10, "medium": 20, "large": 40, "huge": 200}


class FakeModel:
    def __init__(self, name):
        self.name = name
        self.num_closed = 0

    @property
    def is_closed(self):
        return self.num_closed > 0

    def close(self):
        self.num_closed += 1
        assert self.num_closed == 1


class Shop:
    """Opens models and keeps the books."""

    def __init__(self, *, budget=60, keep=FOREVER):
        self.opened = []
        self.may_open = threading.Event()
        self.may_open.set()
        self.broken = set()
        self.residents = Residents(
            self.open, SIZES.__getitem__, budget_bytes=budget, keep_seconds=keep
        )

    def open(self, name):
        assert self.may_open.wait(10)
        if name in self.broken:
            raise OSError(name)
        self.opened.append(FakeModel(name))
        return self.opened[-1]

    @property
    def open_names(self):
        return sorted(model.name for model in self.opened if not model.is_closed)

    def use(self, name, keep=None):
        async def visit():
            model = await self.residents.lease(name)
            assert not model.is_closed
            self.residents.release(name, keep)
            return model

        return visit()


async def settle(condition):
    while not condition():  # noqa: ASYNC110  # an unload has no event to wait for
        await asyncio.sleep(0.001)


async def test_those_who_ask_for_the_same_model_wait_for_one_load():
    shop = Shop()
    shop.may_open.clear()
    asking = [asyncio.create_task(shop.use("small")) for _ in range(5)]
    await settle(lambda: shop.residents.state("small") is State.LOADING)
    shop.may_open.set()
    assert len({id(model) for model in await asyncio.gather(*asking)}) == len(shop.opened) == 1
    assert shop.residents.state("small") is State.LOADED


async def test_the_least_recently_used_idle_model_makes_room():
    shop = Shop()
    for name in ("medium", "small", "medium", "large"):
        await shop.use(name)
    assert shop.open_names == ["large", "medium"]
    assert shop.residents.num_bytes == 60


async def test_a_model_in_use_is_never_closed():
    shop = Shop()
    medium = await shop.residents.lease("medium")
    await shop.residents.lease("small")
    with pytest.raises(ModelsBusyError, match="models in use take"):
        await shop.residents.lease("large")
    assert not medium.is_closed
    shop.residents.release("medium")
    await shop.use("large")
    assert shop.open_names == ["large", "small"]


async def test_what_never_fits_is_told_with_both_numbers():
    with pytest.raises(ModelTooLargeError, match=r"huge takes 0\.00 GB"):
        await Shop().residents.lease("huge")


async def test_a_failed_load_takes_no_room_and_can_be_tried_again():
    shop = Shop()
    shop.broken.add("large")
    for _ in range(2):
        with pytest.raises(OSError, match="large"):
            await shop.use("large")
    assert shop.residents.num_bytes == 0
    shop.broken.clear()
    await shop.use("large")


async def test_who_leaves_while_it_loads_spoils_nothing():
    shop = Shop(keep=0.0)
    shop.may_open.clear()
    task = asyncio.create_task(shop.use("small"))
    await settle(lambda: shop.residents.state("small") is State.LOADING)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    shop.may_open.set()
    await settle(lambda: shop.opened and shop.opened[0].is_closed)
    assert shop.residents.num_bytes == 0


async def test_an_idle_model_goes_after_its_time_and_the_request_says_which():
    shop = Shop(keep=0.02)
    await shop.use("medium", keep=FOREVER)
    await shop.use("small")
    [small, medium] = shop.residents.loaded()
    assert (small.name, medium.expires_at) == ("small", FOREVER)
    assert small.expires_at < FOREVER
    await settle(lambda: shop.open_names == ["medium"])
    await shop.use("medium", keep=0)
    await settle(lambda: not shop.open_names)
    assert shop.residents.state("medium") is State.UNLOADED


async def test_a_new_lease_stops_the_clock():
    shop = Shop(keep=0.01)
    await shop.use("small")
    model = await shop.residents.lease("small")
    await asyncio.sleep(0.03)
    assert not model.is_closed


async def test_the_only_model_stays_whatever_is_asked():
    model = FakeModel("one")
    residents = Residents.of_one("one", model)
    assert await residents.lease("one") is model
    residents.release("one", 0)
    residents.drop("one")
    await asyncio.sleep(0.01)
    assert residents.state("one") is State.LOADED
    residents.close()
    assert model.is_closed


async def test_a_load_that_ends_after_the_close_leaves_nothing_open():
    shop = Shop()
    shop.may_open.clear()
    task = asyncio.create_task(shop.use("small"))
    await settle(lambda: shop.residents.state("small") is State.LOADING)
    shop.residents.close()
    shop.may_open.set()
    with pytest.raises(EngineClosedError):
        await task
    assert not shop.open_names


async def test_a_model_whose_time_is_over_at_the_end_is_closed_once():
    shop = Shop(keep=0.001)
    await shop.use("small")
    shop.residents.close()
    await asyncio.sleep(0.02)
    assert [model.num_closed for model in shop.opened] == [1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_under_random_load_the_budget_holds_and_leases_are_kept(seed):
    asyncio.run(crowd(random.Random(seed)))


async def crowd(dice):
    shop = Shop(keep=0.001)

    async def visitor():
        for _ in range(6):
            name = dice.choice(["small", "medium", "large"])
            try:
                model = await shop.residents.lease(name)
            except ModelsBusyError:
                continue
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
                assert not model.is_closed
                assert shop.residents.num_bytes <= 60
            shop.residents.release(name, dice.choice([None, 0, FOREVER]))

    await asyncio.gather(*(visitor() for _ in range(4)))
    held = sum(SIZES[each.name] for each in shop.residents.loaded())
    assert held <= shop.residents.num_bytes <= 60
    shop.residents.close()
