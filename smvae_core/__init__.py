"""The Set Multimodal VAE: one latent space for many senses, learned from any subset of them.

The files here are the library, from the ground up; what only some of them need stands in the packages at the right.

    errors, progress                    shared by all
    modality, preprocessing             what a modality is; a sensor's units to the model's and back
    networks, likelihood                E_i and D_i of each modality, log p(x | z)      architecture/
    posterior, fusion, model            a set of modalities to one latent and back      architecture/
    decoding                            the same way back, in fewer operations          architecture/
    objective                           what training maximises                         elbo/
    checkpoint                          a whole model as one file
    simulation                          logs from MuJoCo                                peg/ data/
    configuration, training             logs in, a run out                              data/ run/
    engine                              one set at a time, fast                         backends/
    evaluation, figures                 how good a model is                             metrics/
    cli                                 the `smvae` command                             terminal/ reproduce/
"""

__version__ = "0.1.0"
