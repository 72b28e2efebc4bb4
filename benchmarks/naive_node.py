"""The fusion node as it is commonly written, to compare with.

It has a multi-threaded executor. Each callback keeps its newest message; that of the colour image also converts, infers
and publishes. Engine, conversions, topics and message types are those of the fusion node; it waits for no set.
"""

from collections import deque
from functools import partial
from typing import Any

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from smvae_ros.msg import Latent

from smvae_core.inference.engine import Engine
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind
from smvae_ros.conversions.message_types import message_class
from smvae_ros.settings import default_settings


class NaiveNode(Node):
    """A node that publishes latents on the fusion node's topic."""

    def __init__(self) -> None:
        super().__init__("fusion")
        self._engine = Engine.load(None)
        self._engine.warm_up()
        self._latent = self.create_publisher(Latent, "~/latent", 1)
        self._bindings = {binding.modality.name: binding for binding in bind(self._engine.modalities, {})}
        self._newest: dict[str, deque[Any]] = {}
        for name, stream in default_settings(self._engine.modalities).streams.items():
            self._newest[name] = deque(maxlen=stream.window)
            self.create_subscription(
                message_class(self._bindings[name].type),
                stream.topic,
                self._fuse if name == "rgb" else partial(self._keep, name),
                qos_profile_sensor_data,
                # A group for each topic, so that the topics do not wait for each other.
                callback_group=MutuallyExclusiveCallbackGroup(),
            )

    def _keep(self, name: str, message: Any) -> None:
        self._newest[name].append(message)

    def _fuse(self, image: Any) -> None:
        self._keep("rgb", image)
        messages = {name: list(newest) for name, newest in self._newest.items() if len(newest) == newest.maxlen}
        arrays = {
            name: self._bindings[name].modality.to_model(raw_array(self._bindings[name], newest))
            for name, newest in messages.items()
        }
        fusion = self._engine.infer(arrays)
        self._latent.publish(
            Latent(
                header=image.header,
                modalities=list(fusion.modalities),
                mean=fusion.mean.tolist(),
                log_variance=fusion.log_variance.tolist(),
                attention=[fusion.attention[name] for name in fusion.modalities],
            )
        )


def main() -> None:
    """Run until a signal."""
    rclpy.init()
    executor = MultiThreadedExecutor(num_threads=4)
    node = NaiveNode()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        node.destroy_node()


if __name__ == "__main__":
    main()
