"""LocalCluster itself: what its methods return."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.cluster.base import ClusterTests


class LocalClusterTests(ClusterTests):
    async def test_every_action_can_be_awaited(self) -> None:
        """Each acts at once, whether or not its Deferred is awaited."""
        cluster, (first, *_) = self.cluster, self.cluster.servers
        await cluster.pause(first)
        await cluster.resume(first)
        killed = cluster.kill(first)
        self.assertFalse(first.alive)
        await killed
        await cluster.kill(first)

    async def test_every_question_is_a_deferred(self) -> None:
        """What a server is asked is asked at once, also if nobody awaits the answer."""
        cluster, (first, second, _, replica, *_) = self.cluster, self.cluster.servers
        questions = [
            cluster.primaries(),
            cluster.replicas_of(first),
            cluster.ranges_of(second),
            cluster.owner_of(16383),
            cluster.until(self.yes, "nothing"),
        ]
        for question in questions:
            self.assertIsInstance(question, Deferred)
        answers = [await question for question in questions]
        self.assertEqual(answers, [cluster.servers[:3], [replica], [range(5461, 10922)], cluster.servers[2], None])

    async def yes(self) -> bool:
        return True
