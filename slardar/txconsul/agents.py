"""Which of several agents is asked: the one that answered last, and never first one that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

__all__ = ["Agent", "Agents"]


class Agent:
    """One agent's address, and until when it is left alone."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        name = f"[{host}]" if ":" in host else host
        #: ``HOST:PORT``, for people.
        self.name = f"{name}:{port}"
        #: The beginning of its URLs, without a slash at the end.
        self.base = f"{scheme}://{self.name}"
        #: On the reactor's clock.
        self.rests_until = 0.0


class Agents:
    """Several agents of one cluster.  ``rest`` is for how many seconds a failed one is left alone.

    An agent that failed is still asked when all others have failed, too.
    """

    def __init__(self, agents: Iterable[Agent], rest: float, now: Callable[[], float]) -> None:
        self._agents = list(agents)
        self._rest = rest
        self._now = now

    def __len__(self) -> int:
        return len(self._agents)

    @property
    def names(self) -> str:
        """All of them, for people."""
        return ",".join(agent.name for agent in self._agents)

    def in_turn(self) -> Iterator[Agent]:
        """The agents in the order in which a question is put to them."""
        now = self._now()
        # Sorting is stable: among those that do not rest, the one that answered last is first.
        return iter(sorted(self._agents, key=lambda agent: max(0.0, agent.rests_until - now)))

    def works(self, agent: Agent) -> None:
        """It has answered: it is asked first from now on."""
        agent.rests_until = 0.0
        if self._agents[0] is not agent:
            self._agents.remove(agent)
            self._agents.insert(0, agent)

    def failed(self, agent: Agent) -> None:
        """It has not answered: others are asked first for a while."""
        agent.rests_until = self._now() + self._rest
