"""What a seed decides: the kills, and what each client sends."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

from pfsmtp.crashtest.schedule import Kill, Target, kills
from pfsmtp.crashtest.workload import Form, Order, Protection, Visit, Workload


def schedule(seed: int, *targets: Target, mean: float = 1.0) -> list[Kill]:
    return list(islice(kills(Random(seed), targets or tuple(Target), mean=mean), 2000))


def visits(seed: str = "1", client: int = 0, *, largest: int = 1 << 30) -> list[Visit]:
    workload = Workload(
        seed, client, clients=3, pick=lambda random: f"{random.randrange(50)}@x", largest=largest
    )
    return list(islice(workload.visits(), 300))


def orders(**more: int) -> list[Order]:
    return [order for visit in visits(**more) for order in visit.orders]  # type: ignore[arg-type]


def test_a_seed_gives_the_same_kills_again_and_another_seed_others() -> None:
    assert schedule(1) == schedule(1)
    assert schedule(1) != schedule(2)


def test_everybody_is_killed_and_only_those_who_are_to_be() -> None:
    assert {kill.target for kill in schedule(1)} == set(Target)
    some = schedule(1, Target.RECEIVER, Target.ALL)
    assert {kill.target for kill in some} == {Target.RECEIVER, Target.ALL}


def test_kills_are_as_far_apart_as_asked_for_on_average() -> None:
    after = [kill.after for kill in schedule(1, mean=3.0)]
    assert 2.8 < sum(after) / len(after) < 3.2
    assert min(after) > 0


def test_some_kills_do_not_wait_for_the_server_to_be_ready() -> None:
    hasty = Counter(kill.hasty for kill in schedule(1))
    assert 0 < hasty[True] < hasty[False]


def test_a_seed_gives_the_same_messages_again_and_another_seed_others() -> None:
    assert visits() == visits()
    assert visits() != visits("2")


def test_no_two_clients_send_the_same_numbers() -> None:
    numbers = [
        {order.number for visit in visits(client=client) for order in visit.orders}
        for client in range(3)
    ]
    assert not numbers[0] & numbers[1]
    assert not numbers[1] & numbers[2]
    assert not numbers[0] & numbers[2]


def test_messages_are_sent_in_every_way() -> None:
    assert {order.form for order in orders()} == set(Form)
    assert {order.halting for order in orders()} == {True, False}
    assert {visit.protection for visit in visits()} == set(Protection)


def test_some_messages_are_larger_than_what_is_kept_in_memory() -> None:
    sizes = [order.size for order in orders()]
    assert 0 < sum(size > 1 << 20 for size in sizes) < len(sizes) / 20
    assert sum(size < 4096 for size in sizes) > len(sizes) / 2


def test_no_message_is_larger_than_the_server_takes() -> None:
    assert max(order.size for order in orders(largest=10_000)) == 10_000


def test_messages_have_one_recipient_or_several_none_twice() -> None:
    counts = Counter(len(order.recipients) for order in orders())
    assert set(counts) >= {1, 2, 3, 4, 5, 8}
    assert all(len(set(order.recipients)) == len(order.recipients) for order in orders())
