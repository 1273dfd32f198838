"""Gradients of traced networks: each kind of node hands the gradient at its outputs to its inputs."""
