"""The demo: `python -m smvae_ros.demo` plays a recording to the fusion node and judges what comes back."""
