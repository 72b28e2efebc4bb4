"""The messages that other nodes compile against: their fields, in order, with their types."""

from smvae_ros.msg import FusionStatus, Latent, ModalityStatus, VectorStamped


def test_latent() -> None:
    assert Latent.get_fields_and_field_types() == {
        "header": "std_msgs/Header",
        "modalities": "sequence<string>",
        "mean": "sequence<float>",
        "log_variance": "sequence<float>",
        "attention": "sequence<float>",
        "attention_of_memory": "float",
        "memory_age": "float",
        "trust": "sequence<float>",
        "distrusted": "sequence<string>",
    }


def test_modality_status() -> None:
    assert ModalityStatus.get_fields_and_field_types() == {
        "name": "string",
        "alive": "boolean",
        "rate": "float",
        "age": "float",
        "share": "float",
        "received": "uint64",
        "used": "uint64",
        "lost": "uint64",
        "zero_stamp": "uint64",
        "drop_reasons": "sequence<string>",
        "drop_counts": "sequence<uint64>",
        "trust": "float",
        "distrusted": "boolean",
        "distrusted_since": "builtin_interfaces/Time",
        "fault_names": "sequence<string>",
        "fault_counts": "sequence<uint64>",
    }


def test_fusion_status() -> None:
    assert FusionStatus.get_fields_and_field_types() == {
        "header": "std_msgs/Header",
        "state": "string",
        "epoch": "uint32",
        "device": "string",
        "sets": "uint64",
        "skipped": "uint64",
        "published": "uint64",
        "latency_p50": "float",
        "latency_p99": "float",
        "modalities": "sequence<smvae_ros/ModalityStatus>",
        "memory_age": "float",
        "forgotten": "uint32",
    }


def test_vector_stamped() -> None:
    assert VectorStamped.get_fields_and_field_types() == {"header": "std_msgs/Header", "values": "sequence<double>"}
