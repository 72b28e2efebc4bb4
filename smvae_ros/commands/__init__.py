"""The commands of the robot side that work on many bags; `smvae_ros.cli` gathers all commands."""
