"""`python -m smvae_core.cli`, for machines without the robot side."""

from smvae_core.cli.commands import main

main()
