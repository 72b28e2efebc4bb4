"""The executor of the fusion node, on nodes of the test's own."""

from collections.abc import Callable, Iterator
from time import monotonic

import pytest
import rclpy
from geometry_msgs.msg import Twist
from rclpy.node import Node
from std_srvs.srv import Trigger

from smvae_ros.node import callback_guard
from smvae_ros.node.callback_guard import GuardedExecutor
from smvae_ros.node.kept_wait_set import KeptWaitSet
from smvae_ros.node.repeated_warnings import RepeatedWarnings

from ..fusion_process import PATIENCE_S, own_domain


class Spun:
    """A node that is spun by the executor."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("spun", context=self.context)
        self.said: list[str] = []
        self.executor = GuardedExecutor(RepeatedWarnings(self.said.append), self.context)
        self.executor.add_node(self.node)
        # So that a wait that nothing else would end comes to its end.
        self.node.create_timer(0.05, lambda: None)

    def spin_until(self, condition: Callable[[], object]) -> None:
        deadline = monotonic() + PATIENCE_S
        while not condition():
            assert monotonic() < deadline, f"still waiting; the executor said {self.said}"
            self.executor.spin_once()

    def end(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def spun() -> Iterator[Spun]:
    with own_domain() as domain:
        one = Spun(domain)
        yield one
        one.end()


def test_everything_that_a_node_can_wait_for_is_served(spun: Spun) -> None:
    heard: list[str] = []
    publisher = spun.node.create_publisher(Twist, "command", 10)
    spun.node.create_subscription(Twist, "command", lambda _: heard.append("message"), 10)
    spun.node.create_timer(0.01, lambda: heard.append("timer"))
    guard = spun.node.create_guard_condition(lambda: heard.append("guard"))

    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        heard.append("service")
        return response

    spun.node.create_service(Trigger, "ask", answer)
    client = spun.node.create_client(Trigger, "ask")
    spun.spin_until(client.service_is_ready)
    spun.spin_until(publisher.get_subscription_count)
    asked = client.call_async(Trigger.Request())
    publisher.publish(Twist())
    guard.trigger()
    spun.spin_until(lambda: {"message", "timer", "guard", "service"} <= set(heard) and asked.done())
    assert heard.count("message") == heard.count("guard") == heard.count("service") == 1
    assert not spun.said


def test_a_callback_may_create_and_destroy_what_is_waited_for(spun: Spun) -> None:
    heard: list[int] = []
    publisher = spun.node.create_publisher(Twist, "command", 10)

    def subscribe(number: int) -> None:
        def hear(_: Twist) -> None:
            heard.append(number)
            spun.node.destroy_subscription(subscription)
            subscribe(number + 1)

        subscription = spun.node.create_subscription(Twist, "command", hear, 10)

    subscribe(0)

    def publish() -> bool:
        publisher.publish(Twist())
        return len(heard) > 5

    spun.spin_until(publish)
    assert heard[:6] == [0, 1, 2, 3, 4, 5]
    assert not spun.said


def test_a_callback_that_raises_is_named_and_the_others_go_on(spun: Spun) -> None:
    heard: list[str] = []
    publisher = spun.node.create_publisher(Twist, "command", 10)

    def fail(*_: object) -> None:
        heard.append("failed")
        raise LookupError("no such thing")

    spun.node.create_subscription(Twist, "command", fail, 10)
    spun.node.create_subscription(Twist, "command", lambda _: heard.append("message"), 10)
    spun.node.create_timer(0.01, fail)
    spun.spin_until(lambda: publisher.get_subscription_count() == 2)
    publisher.publish(Twist())
    spun.spin_until(lambda: "message" in heard and heard.count("failed") > 5)
    assert any("/command: a callback failed" in line and "no such thing" in line for line in spun.said)
    assert any(line.startswith("timer: a callback failed") for line in spun.said)


def test_the_wait_set_is_kept_while_messages_come(spun: Spun, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[KeptWaitSet] = []

    def build(*arguments: object) -> KeptWaitSet:
        built.append(KeptWaitSet(*arguments))  # type: ignore[arg-type]
        return built[-1]

    heard: list[Twist] = []
    publisher = spun.node.create_publisher(Twist, "command", 10)
    spun.node.create_subscription(Twist, "command", heard.append, 10)
    spun.spin_until(publisher.get_subscription_count)
    spun.spin_until(lambda: spun.executor._wait_set is not None)
    monkeypatch.setattr(callback_guard, "KeptWaitSet", build)
    for number in range(20):
        publisher.publish(Twist())
        spun.spin_until(lambda number=number: len(heard) > number)
    assert len(built) <= 1


def test_a_subscription_whose_group_rests_does_not_wake_the_executor(spun: Spun) -> None:
    heard: list[Twist] = []
    publisher = spun.node.create_publisher(Twist, "command", 10)
    subscription = spun.node.create_subscription(Twist, "command", heard.append, 10)
    resting = True
    group = subscription.callback_group
    may = group.can_execute
    group.can_execute = lambda entity: may(entity) and not (resting and entity is subscription)
    spun.spin_until(publisher.get_subscription_count)
    publisher.publish(Twist())
    ticks: list[int] = []
    spun.node.create_timer(0.01, lambda: ticks.append(1))
    spun.spin_until(lambda: len(ticks) > 10)
    assert not heard
    resting = False
    spun.spin_until(lambda: heard)
