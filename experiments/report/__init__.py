"""What a trained network does to its gradients, as one page: `python -m experiments.report`."""
