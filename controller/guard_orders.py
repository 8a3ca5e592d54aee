"""Which of the rates that were ordered may hold: from when the instrument takes an order to when a later one holds instead. Pure.

An order holds late, by frames or by time, and orders come into force one after the other. So between what is read back and what was
ordered last there may be others on their way, and the highest of them all is what a lease must be reckoned at. An order whose
answer was lost may be among them or not. A beam at rest ends it: it isn't let on before all that was ordered holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.limits import Rate

MOST_ORDERS = 64  # on their way; an instrument whose frames don't go on gets no more leases


@dataclass(frozen=True, slots=True)
class Ordered:
    """A rate that the instrument was told."""

    seq: int  # of its command
    rate: Rate
    holds_from_seq: int | None  # first frame with it, by the instrument's word; None: no answer, so it may act or not


Orders = tuple[Ordered, ...]  # in the order of their commands


def accepted(orders: Orders, order: Ordered) -> Orders:
    """With an order that the instrument has taken; it may have been in doubt before, or come after a later one."""
    others = [other for other in orders if other.seq != order.seq]
    return tuple(sorted((*others, order), key=lambda other: other.seq))


def in_doubt(orders: Orders, seq: int, rate: Rate) -> Orders:
    """With an order of which nobody knows whether it acts."""
    return accepted(orders, Ordered(seq, rate, None))


def from_frame(orders: Orders, frame: int) -> Orders:
    """Those that may hold in this frame or a later one: the newest that surely holds by then, and all after it."""
    for index in range(len(orders) - 1, -1, -1):
        if surely_holds(orders[index], frame):
            return orders[index:]
    return orders


def surely_holds(order: Ordered, frame: int) -> bool:
    """Whether the instrument has said that it holds in this frame, unless a later order does."""
    return order.holds_from_seq is not None and order.holds_from_seq <= frame
