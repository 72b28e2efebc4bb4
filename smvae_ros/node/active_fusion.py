"""Active fusion: what exists only while the node is active."""

from __future__ import annotations

from rclpy.node import Node

from smvae_ros.distrust import Distrust, policies
from smvae_ros.node.repeated_warnings import RepeatedWarnings
from smvae_ros.node.set_memory import SetMemory
from smvae_ros.node.statistics import Statistics
from smvae_ros.node.subscriptions import Subscriptions
from smvae_ros.node.worker import Activity, FusionWorker
from smvae_ros.settings import FusionSettings
from smvae_ros.synchronizer.sample_set import SampleSet


class ActiveFusion:
    """The subscriptions of an active node, and its worker that runs their sets.

    Args:
        worker: has loaded and prepared; runs sets until `close`.
        statistics: takes the counts.
        warnings: takes warnings of messages and outputs.

    Attributes:
        subscriptions: with the synchroniser and its counts.
        statistics: since activation.
        memory: from set to set.
        distrust: of modalities that contradict the others.
    """

    def __init__(
        self,
        node: Node,
        worker: FusionWorker,
        settings: FusionSettings,
        statistics: Statistics,
        warnings: RepeatedWarnings,
    ) -> None:
        self.statistics = statistics
        self._worker = worker
        self._limit_predictions(settings)
        self.subscriptions = Subscriptions(
            node,
            worker.bindings,
            settings,
            submit=self._submit,
            forget=worker.forget,
            learn=worker.learn,
            statistics=statistics,
            warnings=warnings,
        )
        settings_of_memory = worker.engine.memory
        self.memory = SetMemory(
            horizon=settings_of_memory.horizon if settings_of_memory is not None else None,
            now_ns=self.subscriptions.now_ns,
            say=node.get_logger().info,
        )
        self.distrust = Distrust(policies(settings))
        worker.begin(
            Activity(
                statistics=statistics,
                warnings=warnings,
                cameras=self.subscriptions.cameras,
                topics=self.subscriptions.topics,
                now_ns=self.subscriptions.now_ns,
                memory=self.memory,
                distrust=self.distrust,
                say=node.get_logger().warning,
            )
        )

    @property
    def settings(self) -> FusionSettings:
        """The settings in force."""
        return self.subscriptions.settings

    def change(self, settings: FusionSettings) -> None:
        """Apply other values of the settings that may change at any time."""
        self._limit_predictions(settings)
        self.distrust.change(policies(settings))
        self.subscriptions.change(settings)

    def close(self) -> None:
        """Unsubscribe, and wait for the set that is being run."""
        self.subscriptions.destroy()
        self._worker.pause()
        self.subscriptions.settle()

    def _submit(self, sample_set: SampleSet) -> None:
        self.statistics.skipped += self._worker.submit(sample_set)

    def _limit_predictions(self, settings: FusionSettings) -> None:
        self._worker.publications.limit({name: stream.prediction_rate for name, stream in settings.streams.items()})
