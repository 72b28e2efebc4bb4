"""The options of `smvae replay` that put faults on a bag; `smvae_ros.replay.what_if` parses their words."""

from typing import Annotated

import typer

Drop = Annotated[
    list[str] | None,
    typer.Option(
        help="What if a modality were gone: MODALITY altogether, MODALITY@START:END in seconds from the bag's "
        "start; several by commas. Give its name or its topic. Drop what the bag lacks as well. All faults take "
        "@START:END."
    ),
]
Delay = Annotated[
    list[str] | None, typer.Option(help="What if it came later: MODALITY=SECONDS; stamps stay as they are.")
]
Freeze = Annotated[
    list[str] | None, typer.Option(help="What if it repeated its last sample with new stamps: MODALITY.")
]
Swap = Annotated[
    list[str] | None, typer.Option(help="What if it sent what another bag has at the same time: MODALITY=BAG.")
]
Zero = Annotated[list[str] | None, typer.Option(help="What if it sent zeros: MODALITY.")]
Scale = Annotated[list[str] | None, typer.Option(help="What if its values were wrong by a factor: MODALITY=FACTOR.")]
Bias = Annotated[
    list[str] | None,
    typer.Option(help="What if something were added: MODALITY=AMOUNT in bytes, metres, N and N·m, or own units."),
]
Noise = Annotated[
    list[str] | None,
    typer.Option(help="What if it were noisy: MODALITY=STANDARD DEVIATION in model units; images run from 0 to 1."),
]
Dim = Annotated[list[str] | None, typer.Option(help="What if a camera were darker: MODALITY=FACTOR between 0 and 1.")]
Cover = Annotated[
    list[str] | None,
    typer.Option(help="What if the left part of an image were covered: MODALITY=PART between 0 and 1."),
]
Shift = Annotated[
    list[str] | None,
    typer.Option(help="What if a camera had moved: MODALITY=PIXELS of the model's image, to the right."),
]
