"""Callback guard: an exception in a callback of rclpy is logged, and the node goes on.

rclpy lets the exceptions of callbacks leave the spin loop. Some of its own callbacks raise for what a client sends: a
transition that does not exist in the current state, a parameter value of an unknown type.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from difflib import get_close_matches
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy._rclpy_pybind11 import InvalidHandle
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from smvae_ros.node.kept_wait_set import KeptWaitSet
from smvae_ros.node.repeated_warnings import RepeatedWarnings

_Answer = Callable[[Any, Any], Any]
"""The callback of a service: request and empty response in, response out."""


class GuardedExecutor(SingleThreadedExecutor):
    """An executor that goes on after an exception, whether of a callback or of taking the message for it.

    It calls timers and subscriptions itself, and leaves the rest, which is rare, to rclpy.

    Args:
        warnings: take one line for each exception.
        context: of the nodes; by default rclpy's own.
    """

    def __init__(self, warnings: RepeatedWarnings, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._warnings = warnings
        self._wait_set: KeptWaitSet | None = None

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready, and call what it is for; with a timeout as rclpy does it."""
        if timeout_sec is not None:
            super().spin_once(timeout_sec)
            return
        try:
            if self._wait_set is None:
                self._wait_set = KeptWaitSet(self.get_nodes(), (self._guard, self._sigint_gc), self._context)
            ready = self._wait_set.wait(self.can_execute)
        except InvalidHandle:
            self._wait_set = None
            return
        for timer in ready.timers:
            self._call(timer, self._take_timer)
        for subscription in ready.subscriptions:
            if self.can_execute(subscription):
                self._call(subscription, self._take_subscription)
        if ready.others:
            # An entity may have been created or destroyed.
            self._wait_set = None
            super().spin_once(0)

    def _call(self, entity: Any, take: Callable[[Any], Callable[[], Awaitable[None]] | None]) -> None:
        try:
            execute = take(entity)
            if execute is not None:
                # No callback of this node waits for anything, so one step is all.
                execute().__await__().send(None)
        except StopIteration:
            pass
        except Exception as error:
            self._report(entity, error)

    # Around each entity, not around spin_once(): rclpy leaves an entity marked as being executed when taking its
    # message raises, and with it the whole callback group.
    def _make_handler(self, entity: Any, node: Node, take_from_wait_list: Callable[[Any], Any]) -> Any:
        def take(entity: Any) -> Callable[[], Awaitable[None]] | None:
            try:
                execute = take_from_wait_list(entity)
            except Exception as error:
                self._report(entity, error)
                return None

            async def guarded() -> None:
                try:
                    await execute()
                except Exception as error:
                    self._report(entity, error)

            return guarded if execute is not None else None

        return super()._make_handler(entity, node, take)

    def _report(self, entity: Any, error: Exception) -> None:
        name = getattr(entity, "topic_name", None) or getattr(entity, "srv_name", None) or type(entity).__name__.lower()
        self._warnings.warn(f"callback {name}", f"{name}: a callback failed and is passed over: {described(error)}")


def guard_services(node: Node, warnings: RepeatedWarnings) -> None:
    """Make every service of a node answer a request that raises with a refusal that says why."""
    for service in node.services:
        name, kind = service.service_name, service.srv_type
        answer = _guarded(name, kind, service.callback, warnings)
        if kind is SetParameters:
            answer = _each_by_itself(node, answer)
        elif kind is SetParametersAtomically:
            answer = _all_or_none(node, answer)
        service.callback = answer


def described(error: Exception) -> str:
    """Return an exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _guarded(name: str, kind: Any, callback: _Answer, warnings: RepeatedWarnings) -> _Answer:
    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            refusal, reason = _refusal(kind, request, error)
            warnings.warn(f"service {name}", f"{name}: a request was refused: {reason}")
            return refusal

    return answer


def _each_by_itself(node: Node, answer: _Answer) -> _Answer:
    """Return an answer to SetParameters in which one bad parameter does not take the results of the others along."""

    def answer_each(request: Any, response: Any) -> Any:
        for parameter in request.parameters:
            one = SetParameters.Response(results=_unknown(node, [parameter]))
            if not one.results:
                one = answer(SetParameters.Request(parameters=[parameter]), one)
            response.results.extend(one.results)
        return response

    return answer_each


def _all_or_none(node: Node, answer: _Answer) -> _Answer:
    def answer_all(request: Any, response: Any) -> Any:
        unknown = _unknown(node, request.parameters)
        return SetParametersAtomically.Response(result=unknown[0]) if unknown else answer(request, response)

    return answer_all


def _unknown(node: Node, parameters: Iterable[Any]) -> list[SetParametersResult]:
    """Return a refusal for each parameter that the node does not have: rclpy's own names none, and lets "" pass."""
    names = [parameter.name for parameter in parameters if not node.has_parameter(parameter.name)]
    refusals = []
    for name in names:
        close = get_close_matches(name[:200], node._parameters, 1, 0.7)
        hint = f"; did you mean {close[0]}?" if close else ""
        if not close and name.startswith("streams."):
            hint = "; those of modalities exist from the first configuration on, for the modalities of the checkpoint"
        refusals.append(SetParametersResult(successful=False, reason=f"'{name[:200]}': no such parameter{hint}"))
    return refusals


def _refusal(kind: Any, request: Any, error: Exception) -> tuple[Any, str]:
    """Return the response that refuses a request, and the reason."""
    reason = described(error)
    response = kind.Response()
    if kind is ChangeState:
        transition = request.transition
        reason = f"there is no transition '{transition.label or transition.id}' from the current state"
    elif kind is SetParameters:
        response.results.append(SetParametersResult(successful=False, reason=reason))
    elif kind is SetParametersAtomically:
        response.result = SetParametersResult(successful=False, reason=reason)
    return response, reason
