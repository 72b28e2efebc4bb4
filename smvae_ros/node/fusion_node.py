"""The fusion node: the shell of a managed (lifecycle) node around the worker and the active fusion.

Sensor messages pass through subscriptions, synchronizer, worker and publications, in this order. Callbacks only stamp
and enqueue, on a single-threaded executor; the network runs on the worker's thread.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from smvae_core.device import EngineError, torch_device
from smvae_core.errors import ConfigurationError, SMVAEError
from smvae_core.quick_torch import import_torch
from smvae_ros.conversions.message_definitions import installed_types
from smvae_ros.node.active_fusion import ActiveFusion
from smvae_ros.node.callback_guard import described, guard_services
from smvae_ros.node.diagnostics import closing_summary
from smvae_ros.node.lifecycle_services import DEEP, create_lifecycle_services
from smvae_ros.node.parameters import (
    declare_fusion_settings,
    declare_node_settings,
    fusion_settings,
    node_settings,
    refuse_fusion_settings,
    refuse_node_settings,
    unknown_settings,
)
from smvae_ros.node.publications import Publications
from smvae_ros.node.qos_overrides import ineffective_overrides
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.status import STEADY, StatusPublisher
from smvae_ros.node.worker import FusionWorker
from smvae_ros.settings import NodeSettings
from smvae_ros.trained_joints import other_joints, with_trained_joints

if TYPE_CHECKING:  # torch takes seconds to import; the worker does it when the node is configured
    from smvae_core.inference.engine import Engine

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class FusionNode(LifecycleNode):
    """The fusion node. Configured: the engine is loaded and warm. Active: subscribed and publishing.

    Raises:
        ConfigurationError: a parameter of the wrong type or out of range.
    """

    def __init__(self) -> None:
        super().__init__("fusion", enable_communication_interface=False)
        create_lifecycle_services(self)
        declare_node_settings(self)
        self._problem = ""
        self._ending = False
        self._worker: FusionWorker | None = None
        """From configuration to clean-up."""
        self._active: ActiveFusion | None = None
        self._statistics = Statistics()
        self._summary = closing_summary(self._statistics, 0, {})
        self.warnings = RepeatedWarnings(self.get_logger().warning)
        """Warnings that may repeat; for callbacks and for the worker."""
        self._status = StatusPublisher(self)
        self.create_timer(1.0, self._report, clock=STEADY)
        self.create_service(Trigger, "~/reset", self._reset, qos_profile=DEEP)
        self.add_on_set_parameters_callback(self._consider)
        self.add_post_set_parameters_callback(self._apply)
        guard_services(self, self.warnings)

    @property
    def state(self) -> str:
        """Label of the lifecycle's state."""
        return str(self._state_machine.current_state[1])

    @property
    def broken(self) -> str:
        """Why the node cannot go on, and its process must be started again; empty if it can."""
        return self._worker.died if self._worker is not None else ""

    def start(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        configured = self.get_parameter("autostart").value and self.trigger_configure() == _SUCCESS
        if configured and not self._ending:
            self.trigger_activate()

    def hurry(self) -> None:
        """Say from any thread that the node is about to end, so that a checkpoint being loaded is not warmed up."""
        self._ending = True
        if (worker := self._worker) is not None:
            worker.cancel()

    def end(self) -> None:
        """Shut down from whatever state, unsubscribe, join the worker and log the closing summary."""
        if self.broken:
            self.get_logger().fatal(self.broken)
        if self.state != "finalized":
            self.trigger_shutdown()
        self.get_logger().info(self._summary)
        self.destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, warm it up, create the publishers."""
        return self._attempt(self._configure, self._free)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, with the settings as they stand now; all counts begin at 0."""
        done = self._attempt(self._activate, self._quiet)
        return super().on_activate(state) if done == _SUCCESS else done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and free the GPU; the checkpoint stays loaded."""
        self._quiet()
        self.get_logger().info("inactive: unsubscribed")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the checkpoint."""
        self._free()
        self.get_logger().info("unconfigured: the model is freed")
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and free the checkpoint."""
        self._free()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is unconfigured afterwards."""
        self._free()
        return _SUCCESS

    def _attempt(self, step: Callable[[], None], undo: Callable[[], None]) -> TransitionCallbackReturn:
        self._problem = ""
        try:
            step()
        except Exception as error:  # rclpy would swallow it without a word
            undo()
            self._problem = str(error) if isinstance(error, SMVAEError) else described(error)
            if not self._ending:
                self.get_logger().error(self._problem)
            return _FAILURE
        return _SUCCESS

    def _configure(self) -> None:
        settings = node_settings(self)
        begin = monotonic()
        self._worker = worker = FusionWorker()
        engine = worker.load(lambda: self._load(settings), self._tell_choice)
        declare_fusion_settings(self, engine.modalities)
        chosen = fusion_settings(self, engine.modalities)
        bindings = with_trained_joints(chosen, engine.metadata.joints).bindings(engine.modalities)
        for sentence in other_joints(chosen, engine.metadata.joints):
            self.get_logger().warning(sentence)
        types = installed_types({binding.type for binding in bindings})
        bindings = tuple(binding.reading(types) for binding in bindings)
        worker.prepare(bindings, Publications(self, bindings))
        names = ", ".join(modality.name for modality in engine.modalities)
        for name in unknown_settings(self):
            found = f" of a checkpoint with {names}" if name.startswith("streams.") else ""
            self.get_logger().warning(f"{name}: no such parameter{found}; it has no effect")
        # Loaded modules and the model stay; the collector need not look at them again and again. While the process
        # starts, the collector is off, and the process does it.
        if gc.isenabled():
            gc.collect()
            gc.freeze()
        self.get_logger().info(
            f"configured: {settings.checkpoint or 'the shipped checkpoint'} ({names}) "
            f"on {engine.device} by {engine.backend}, loaded and warm in {monotonic() - begin:.1f} s"
        )

    def _tell_choice(self, engine: Engine) -> None:
        chosen, times = engine.backend, engine.told_timings
        self.get_logger().info(f"runs with {chosen} from now on, the fastest of: {times} a set")

    def _load(self, settings: NodeSettings) -> Engine:
        import_torch()
        import torch

        from smvae_core.inference.engine import Engine

        try:
            device = str(torch_device(settings.device, self.get_logger().warning))
        except EngineError as error:
            self.get_logger().warning(f"{error}; running on the processor")
            device = "cpu"
        torch.set_num_threads(usable_threads(settings.threads, self.get_logger().warning))
        path = Path(settings.checkpoint) if settings.checkpoint else None
        return Engine.load(path, device, settings.backend, settings.precision)

    def _activate(self) -> None:
        assert self._worker is not None, "the lifecycle configures before it activates"
        settings = fusion_settings(self, self._worker.engine.modalities)
        self._statistics = Statistics()
        self._status.begin()
        self._active = active = ActiveFusion(self, self._worker, settings, self._statistics, self.warnings)
        topics = ", ".join(
            f"{name} from {topic} ({active.subscriptions.bindings[name].message})"
            for name, topic in active.subscriptions.topics.items()
            if settings.streams[name].enabled
        )
        self.get_logger().info(f"active: {topics}")
        disabled = [topic for name, topic in active.subscriptions.topics.items() if not settings.streams[name].enabled]
        for name, reason in ineffective_overrides(self, disabled).items():
            self.get_logger().warning(f"{name} has no effect: {reason}")

    def _quiet(self) -> None:
        if self._active is not None:
            self._active.close()
            synchronizer = self._active.subscriptions.synchronizer
            sets = sum(synchronizer.sets.values())
            self._summary = closing_summary(self._statistics, sets, synchronizer.counts)
            self._active = None

    def _free(self) -> None:
        self._quiet()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            gc.unfreeze()

    def _report(self) -> None:
        device = self._worker.device if self._worker is not None else ""
        subscriptions = self._active.subscriptions if self._active is not None else None
        if subscriptions is not None:
            subscriptions.cameras.look()
            subscriptions.settle()
        memory = self._active.memory if self._active is not None else None
        if memory is not None:
            memory.lapse()
        distrust = self._active.distrust if self._active is not None else None
        self._status.publish(self.state, self._problem, device, self._statistics, subscriptions, memory, distrust)

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._active is not None
        if self._active is None:
            response.message = f"the node is {self.state}: there is nothing to reset"
        else:
            epoch = self._active.subscriptions.reset("~/reset was called")
            response.message = f"all samples forgotten, epoch {epoch} begins"
        return response

    def _consider(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse parameters that could not be applied, so that the old values stay."""
        try:
            refuse_node_settings(parameters, self.state)
            # Declaring parameters, while the node is being configured, calls this as well.
            if self._worker is not None and self.state in ("inactive", "active"):
                refuse_fusion_settings(self, self._worker.engine.modalities, parameters, self.state)
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        if self._worker is None or self._active is None:
            return
        try:
            settings = fusion_settings(self, self._worker.engine.modalities)
            if settings != self._active.settings:
                self._active.change(settings)
        except Exception as error:  # of a subscription: rclpy would swallow it without a word
            self.get_logger().error(described(error))


def usable_threads(wanted: int, warn: Callable[[str], object]) -> int:
    """Return the threads of one inference, at most one for each core that the process may use.

    More threads than cores, or one on the executor's core, would delay the callbacks; very many end the process.

    Args:
        wanted: by the user; 0 for one on each core but the executor's, at most 4.
        warn: takes a sentence if that are too many.
    """
    cores = len(os.sched_getaffinity(0))
    if wanted > cores:
        warn(f"threads: expected at most {cores}, the cores that the process may use, found {wanted}; takes {cores}")
        return cores
    return wanted or min(4, max(1, cores - 1))
