"""What the client of a CA keeps: what is read of it, and what is not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from slardar.model.acme import Account, Answer, Order, order_key, read_challenges, read_value
from slardar.model.tls import Challenges

NONE = Challenges()
HTTP = Order("a", answer=Answer("token", "token.thumb"))
TLS = Order("a", answer=Answer(cert="CERT", key="KEY"))


def values(**orders: Any) -> dict[str, Any]:
    """The values of a store with these orders, and an account."""
    found = {
        order_key(name): to_builtins(one) if isinstance(one, Order) else one
        for name, one in orders.items()
    }
    return {"account": {"directory": "https://ca", "key": "secret"}, **found}


def test_answers_of_all_orders() -> None:
    """By their tokens and names; if nothing differs they are the same object."""
    held = values(a=HTTP, b=TLS, c=Order(failures=1))
    found, failed = read_challenges(held, NONE)
    assert failed == {}
    assert found.http == {"token": "token.thumb"}
    assert [(name, pair.names, pair.cert, pair.key) for name, pair in found.tls.items()] == [
        ("b", ("b",), "CERT", "KEY")
    ]
    assert read_challenges(values(a=HTTP, b=TLS), found)[0] is found
    assert read_challenges(values(), NONE)[0] is NONE


@pytest.mark.parametrize(
    "value",
    [
        1,
        {"node": 1},
        {"until": -1},
        {"until": "soon"},
        {"answer": {"token": "a/b"}},
        {"answer": {"token": "a", "text": "a\r\nb"}},
        {"answer": {"cert": "x" * 20000}},
    ],
)
def test_nonsense_harms_no_other_order(value: Any) -> None:
    """Somebody else may write to the store."""
    found, failed = read_challenges(values(a=HTTP, b=value), NONE)
    assert found.http == {"token": "token.thumb"}
    assert list(failed) == ["order/b"]
    with pytest.raises(ValueError, match=r"[Ee]xpected"):
        read_value(Order, value)


def test_nothing_shows_a_key() -> None:
    """A traceback or a failed assertion may show it."""
    assert "secret" not in repr(Account("https://ca", "secret"))
    assert "KEY" not in repr(TLS)
