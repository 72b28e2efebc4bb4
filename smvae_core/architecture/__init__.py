"""What the networks are built of: widths, normalisation, the networks of the bimodal data sets, and the experts."""
