"""The robot side of the package: messages, sets, bags and the fusion node."""
