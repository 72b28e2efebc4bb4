"""The fusion node: sensors in, latent and predictions out, as a managed (lifecycle) node.

Callbacks only stamp and enqueue, on a single-threaded executor; the network runs on the worker's thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from smvae_core.errors import ConfigurationError, SMVAEError
from smvae_ros.conversions.arrays import set_arrays
from smvae_ros.conversions.bindings import Binding
from smvae_ros.node.diagnostics import Statistics
from smvae_ros.node.farewell import farewell
from smvae_ros.node.parameters import (
    declare_fusion_settings,
    declare_node_settings,
    fusion_settings,
    node_settings,
    refuse_fusion_settings,
    refuse_node_settings,
    unknown_overrides,
)
from smvae_ros.node.publications import Publications
from smvae_ros.node.repetition import Repetition
from smvae_ros.node.status import STEADY, StatusPublisher
from smvae_ros.node.subscriptions import Intake
from smvae_ros.node.worker import FusionWorker, Result
from smvae_ros.settings import FusionSettings, NodeSettings
from smvae_ros.synchronizer.set_synchronizer import SampleSet

if TYPE_CHECKING:  # torch takes seconds to import; the worker does it when the node is configured
    from smvae_core.inference.engine import Engine

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class FusionNode(LifecycleNode):
    """Configured: the engine is loaded and warm. Active: subscribed and publishing.

    Raises:
        ConfigurationError: a parameter of the wrong type or out of range.
    """

    def __init__(self) -> None:
        super().__init__("fusion")
        declare_node_settings(self)
        self._problem = ""
        self._statistics = Statistics()
        self._settings: FusionSettings | None = None
        self._worker: FusionWorker | None = None
        self._engine: Engine | None = None
        self._bindings: tuple[Binding, ...] = ()
        self._publications: Publications | None = None
        self._intake: Intake | None = None
        self._ending = False
        self._warnings: dict[str, Repetition] = {}
        self._status = StatusPublisher(self)
        self.create_timer(1.0, self._report, clock=STEADY)
        self.create_service(Trigger, "~/reset", self._reset)
        self.add_on_set_parameters_callback(self._consider)
        self.add_post_set_parameters_callback(self._apply)

    @property
    def state(self) -> str:
        """Label of the lifecycle's state."""
        return self._state_machine.current_state[1]

    def start(self) -> None:
        """Configure and activate, if the parameter `autostart` says so."""
        configured = self.get_parameter("autostart").value and self.trigger_configure() == _SUCCESS
        if configured and not self._ending:
            self.trigger_activate()

    def hurry(self) -> None:
        """From any thread: the node is about to end, so a checkpoint that is being loaded is not warmed up any more."""
        self._ending = True
        if (worker := self._worker) is not None:
            worker.cancel()

    def end(self) -> None:
        """Leave every state in good order: unsubscribe, join the worker, say farewell."""
        synchronizer = self._intake.synchronizer if self._intake is not None else None
        if self.state != "finalized":
            self.trigger_shutdown()
        self.get_logger().info(farewell(self._statistics, synchronizer))
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
        """Let go of the checkpoint."""
        self._free()
        self.get_logger().info("unconfigured: the model is freed")
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup."""
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
            self._problem = str(error) if isinstance(error, SMVAEError) else f"{type(error).__name__}: {error}"
            if not self._ending:
                self.get_logger().error(self._problem)
            return _FAILURE
        return _SUCCESS

    def _configure(self) -> None:
        settings = node_settings(self)
        begin = monotonic()
        self._engine = self._work(lambda: self._load(settings))
        declare_fusion_settings(self, self._engine.modalities)
        self._settings = fusion_settings(self, self._engine.modalities)
        self._bindings = self._settings.bindings(self._engine.modalities)
        self._publications = Publications(self, self._bindings)
        names = ", ".join(modality.name for modality in self._engine.modalities)
        for name in unknown_overrides(self):
            found = f" of a checkpoint with {names}" if name.startswith("streams.") else ""
            self.get_logger().warning(f"{name}: no such parameter{found}; it has no effect")
        self.get_logger().info(
            f"configured: {settings.checkpoint or 'the shipped checkpoint'} ({names}) "
            f"on {self._engine.device} by {self._engine.backend}, loaded and warm in {monotonic() - begin:.1f} s"
        )

    def _work(self, load: Callable[[], Engine]) -> Engine:
        self._worker = FusionWorker(load, self._convert, self._wanted, self._publish, self._fail)
        return self._worker.engine()

    def _load(self, settings: NodeSettings) -> Engine:
        import torch

        from smvae_core.inference.engine import Engine

        device = settings.device
        if device == "cuda" and not torch.cuda.is_available():
            self.get_logger().warning("device: 'cuda' was asked for, but torch finds none; running on the processor")
            device = "cpu"
        # More threads than cores, or one on the executor's core, delay the callbacks.
        torch.set_num_threads(settings.threads or min(4, max(1, (os.cpu_count() or 1) - 1)))
        path = Path(settings.checkpoint) if settings.checkpoint else None
        return Engine.load(path, device, precision=settings.precision)

    def _activate(self) -> None:
        self._settings = fusion_settings(self, self._engine.modalities)
        self._limit_predictions()
        if self._worker is None:
            self._work(lambda: self._engine)
        self._statistics = Statistics()
        self._status.begin()
        self._intake = Intake(self, self._bindings, self._settings, self._submit, self._worker.forget)
        topics = ", ".join(
            f"{name} from {topic} ({self._intake.bindings[name].message})"
            for name, topic in self._intake.topics.items()
            if self._settings.streams[name].enabled
        )
        self.get_logger().info(f"active: {topics}")

    def _quiet(self) -> None:
        if self._intake is not None:
            self._intake.destroy()
            self._intake = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        # A processor's memory is not worth the time that loading it again would take.
        if self._engine is not None and self._engine.device.type == "cuda":
            self._engine.release()

    def _free(self) -> None:
        self._quiet()
        if self._publications is not None:
            self._publications.destroy()
        self._engine = self._publications = self._settings = None

    def _submit(self, sample_set: SampleSet) -> None:
        self._statistics.skipped += self._worker.submit(sample_set)

    def _convert(self, sample_set: SampleSet) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        return set_arrays(self._bindings, sample_set)

    def _wanted(self) -> set[str] | None:
        wanted = self._publications.wanted()
        self._statistics.unheard += wanted is None
        return wanted

    def _publish(self, result: Result) -> None:
        intake, statistics = self._intake, self._statistics
        if intake is None:
            return
        for name, reason in result.rejected.items():
            statistics.rejected[name] += 1
            statistics.reasons[name] = reason
            self._warn(name, f"{intake.topics[name]}: {reason}")
        if result.fusion is None:
            return
        begin = monotonic()
        self._publications.publish(result.sample_set, result.fusion, intake.frames, intake.camera)
        sample_set = result.sample_set
        newest_ns = sample_set.stamp_ns - min(sample_set.ages_ns.values())
        statistics.published += 1
        statistics.decoded.update(result.fusion.predictions.keys())
        statistics.add_times(
            {
                "latency": (self.get_clock().now().nanoseconds - newest_ns) / 1e9,
                "wait": (sample_set.emitted_ns - sample_set.opened_ns + result.waited_ns) / 1e9,
                "conversion": result.conversion_ns / 1e9,
                "inference": result.inference_ns / 1e9,
                "publication": monotonic() - begin,
            }
        )

    def _fail(self, error: Exception) -> None:
        self._statistics.failures += 1
        self._warn(
            "", str(error) if isinstance(error, SMVAEError) else f"a set failed: {type(error).__name__}: {error}"
        )

    def _warn(self, about: str, text: str) -> None:
        if self._warnings.setdefault(about, Repetition()).due(text, monotonic()):
            self.get_logger().warning(text)

    def _report(self) -> None:
        device = str(self._engine.device) if self._engine is not None else ""
        self._status.publish(self.state, self._problem, device, self._statistics, self._intake)

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._intake is not None
        if self._intake is None:
            response.message = f"the node is {self.state}: there is nothing to reset"
        else:
            response.message = f"all samples forgotten, epoch {self._intake.reset()} begins"
        return response

    def _consider(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what could not be applied, so that the old value stays."""
        try:
            refuse_node_settings(parameters, self.state)
            if self._settings is not None:
                refuse_fusion_settings(self, self._engine.modalities, parameters, self.state)
        except ConfigurationError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        if self._intake is None:
            return
        settings = fusion_settings(self, self._engine.modalities)
        if settings == self._settings:
            return
        self._settings = settings
        self._limit_predictions()
        try:
            self._intake.change(settings)
        except Exception as error:  # of a subscription: rclpy would swallow it without a word
            self.get_logger().error(f"{type(error).__name__}: {error}")

    def _limit_predictions(self) -> None:
        self._publications.limit({name: s.prediction_rate for name, s in self._settings.streams.items()})
