"""Stores in ZooKeeper: what stands behind ``zookeeper:`` in a store's URL."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from slardar.errors import ConfigError
from slardar.model.names import split_host_port
from slardar.model.reader import shown
from slardar.stores.shared import SharedStore

if TYPE_CHECKING:
    from slardar.stores.zookeeper_tree import ZooKeeperTree

__all__ = ["from_place", "tree_at"]


def from_place(place: str, reactor: Any) -> SharedStore:
    """The store of ``zookeeper:PLACE``; see :func:`tree_at`.  Raises ConfigError."""
    tree = tree_at(place, reactor)
    return SharedStore(tree, reactor, f"{tree.root}/")


def tree_at(place: str, reactor: Any) -> ZooKeeperTree:
    """The tree of ``HOST:PORT,HOST:PORT/ROOT?timeout=SECONDS``, for the user that the environment
    names in ``ZOOKEEPER_AUTH``.  Raises ConfigError."""
    try:
        from slardar.stores.zookeeper_tree import TIMEOUT, ZooKeeperTree, takes
    except ModuleNotFoundError as error:
        if f"{error.name}".partition(".")[0] != "kazoo":
            raise
        raise ConfigError(
            "zookeeper: this needs the package kazoo: pip install 'txslardar[zookeeper]'"
        ) from None
    place, _, query = place.partition("?")
    hosts, slash, root = place.partition("/")
    if "@" in hosts:
        raise ConfigError("zookeeper: expected user and password in ZOOKEEPER_AUTH, not in the URL")
    for host in hosts.split(","):
        if split_host_port(host) is None:
            raise ConfigError(f"zookeeper: expected HOST:PORT,HOST:PORT/PATH, got {shown(place)}")
    root = f"{slash}{root.rstrip('/')}"
    if not takes(root) or root.split("/")[1] == "zookeeper":
        raise ConfigError(
            f"zookeeper: expected a path such as /slardar after the hosts, got {shown(root)}"
        )
    timeout = TIMEOUT
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "timeout":
            raise ConfigError(f"zookeeper: expected no option but timeout, got {shown(name)}")
        try:
            timeout = float(value)
        except ValueError:
            timeout = 0.0
        if not 1 <= timeout <= 60:
            raise ConfigError(
                f"zookeeper: timeout: expected seconds from 1 to 60, got {shown(value)}"
            )
    auth = os.environ.get("ZOOKEEPER_AUTH") or None
    if auth is not None and not all(auth.partition(":")):
        raise ConfigError("zookeeper: ZOOKEEPER_AUTH: expected USER:PASSWORD")
    return ZooKeeperTree(hosts, root, reactor, auth, timeout)
