"""Who may use etcd: passwords, tokens and certificates, with a real etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from slardar.errors import StoreError
from slardar.stores.etcd import EtcdTree, tree_at
from slardar.stores.tree import Write
from tests.certificates import Authority
from tests.stores.etcd_server import Etcd, Told, base64, reactor, until

pytestmark = pytest.mark.real


class Locked:
    """An etcd that wants passwords, and trees there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Etcd(folder / "etcd", "--auth-token-ttl", "1").ready()
        self.root = self.server.demand_passwords(joe="secret")
        self.trees: list[EtcdTree] = []

    def tree(self, path: str = "ours", password: str = "secret", port: int = 0) -> EtcdTree:
        """A tree of the user joe, who may use ``ours`` only."""
        file = self.folder / "credentials"
        file.write_text(f"joe:{password}\n")
        url = f"http://127.0.0.1:{port or self.server.port}/{path}/?credentials={file}"
        tree = tree_at(url, reactor)
        self.trees.append(tree)
        return tree

    async def forgets_tokens(self) -> None:
        """Wait until tokens that were given before have expired."""
        token = self.server.token("joe", "secret")
        # Each use makes a token younger, so it is used once.
        await deferLater(reactor, 2.2, lambda: None)
        with pytest.raises(AssertionError, match="invalid auth token"):
            self.server.call("kv/range", {"key": base64("/ours/a")}, token)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Locked]:
    """An etcd that wants passwords, for one test."""
    made = Locked(tmp_path)
    yield made
    for tree in made.trees:
        pytest_twisted.blockon(tree.close())
    made.server.end()


@pytest_twisted.ensureDeferred
async def test_tokens_are_renewed(locked: Locked) -> None:
    """A token that has expired, or that a restart has forgotten, costs no call and no watch."""
    tree = locked.tree()
    assert await tree.write([Write("a", b"1", 0)])
    told = Told(tree, await tree.read())
    bystander = locked.tree()
    await bystander.read()
    await locked.forgets_tokens()
    assert (await bystander.read()).entries["a"].value == b"1"
    locked.server.kill()
    await until(lambda: told.reasons)
    locked.server = locked.server.again()
    await until(lambda: len(told.contents) == 2)
    await tree.write([Write("a", b"2")])
    await told.until(a="2")
    assert await bystander.write([Write("b", b"1")])
    await told.until(a="2", b="1")


@pytest_twisted.ensureDeferred
async def test_refusals_say_why(locked: Locked) -> None:
    """In one line, without the password; a password that is put right is used at once."""
    url = locked.server.url
    tree = locked.tree(password="wrong-one")
    failed = "etcdserver: authentication failed, invalid user ID or password"
    for call in (tree.read(), tree.write([Write("a", b"1")])):
        with pytest.raises(StoreError) as caught:
            await call
        assert str(caught.value) == f"etcd {url}: {failed}"
    right = locked.tree()
    told = Told(tree, await tree.read())
    locked.server.put("/ours/a", "1", locked.server.token("root", "root"))
    await told.until(a="1")
    foreign = locked.tree("theirs")
    for call in (foreign.read(), foreign.write([Write("a", b"1")])):
        with pytest.raises(StoreError, match=r"^etcd \S+: etcdserver: permission denied$"):
            await call
    spied = Told(foreign, await right.read())
    await until(lambda: spied.reasons)
    assert "permission denied" in spied.reasons[0]
    anonymous = tree_at(f"{url}/ours/", reactor)
    locked.trees.append(anonymous)
    with pytest.raises(StoreError, match="user name is empty: give ETCD_USER and ETCD_PASSWORD"):
        await anonymous.read()


@pytest_twisted.ensureDeferred
async def test_user_from_the_environment(
    locked: Locked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where etcd wants none."""
    monkeypatch.setenv("ETCD_USER", "joe")
    monkeypatch.setenv("ETCD_PASSWORD", "secret")
    tree = tree_at(f"{locked.server.url}/ours/", reactor)
    locked.trees.append(tree)
    await tree.write([Write("a", b"1", 0)])
    locked.server.call("auth/disable", {}, locked.server.token("root", "root"))
    assert (await tree.read()).entries["a"].value == b"1"
    again = tree_at(f"{locked.server.url}/ours/", reactor)
    locked.trees.append(again)
    told = Told(again, await again.read())
    await again.write([Write("a", b"2")])
    await told.until(a="2")


@pytest_twisted.ensureDeferred
async def test_certificates_are_shown_and_checked(tmp_path: Path) -> None:
    """etcd's by us, ours by etcd; a wrong one is one clear line."""
    authority = Authority(tmp_path)
    other = Authority(tmp_path, "other")
    cert, key = authority.issue("etcd")
    options = ["--cert-file", str(cert), "--key-file", str(key)]
    options += ["--client-cert-auth", "--trusted-ca-file", str(authority.file)]
    server = Etcd(tmp_path / "etcd", *options, scheme="https").ready()
    mine, my_key = authority.issue("mine")
    place = f"{server.url}/s/?"
    shown = f"&cert={mine}&key={my_key}"
    trees = [
        tree_at(f"{place}ca={authority.file}{shown}", reactor),
        tree_at(f"{place}ca={other.file}{shown}", reactor),
        tree_at(f"{place}{shown[1:]}", reactor),
        tree_at(f"{place}ca={authority.file}", reactor),
    ]
    try:
        good, *bad = trees
        told = Told(good, await good.read())
        await good.write([Write("a", b"1", 0)])
        await told.until(a="1")
        reasons = []
        for tree in bad:
            with pytest.raises(StoreError) as caught:
                await tree.read()
            reasons.append(str(caught.value).removeprefix(f"etcd {server.url}: "))
        assert reasons[:2] == ["certificate verify failed"] * 2
        assert "bad certificate" in reasons[2] or "certificate required" in reasons[2]
    finally:
        for tree in trees:
            await tree.close()
        server.end()
