"""The Python classes of the messages that bindings name. Imports ROS 2."""

from geometry_msgs.msg import TwistStamped, WrenchStamped
from sensor_msgs.msg import CompressedImage, Image, JointState

from smvae_ros.conversions.bindings import COMPRESSED, IMAGE, JOINTS, TWIST, VECTOR, WRENCH
from smvae_ros.msg import VectorStamped

MESSAGES: dict[str, type] = {
    IMAGE: Image,
    COMPRESSED: CompressedImage,
    WRENCH: WrenchStamped,
    TWIST: TwistStamped,
    JOINTS: JointState,
    VECTOR: VectorStamped,
}
"""The message class of each ROS type."""
