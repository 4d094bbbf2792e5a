"""What becomes of small changes in recurrent networks: exponents against gain, over training, and fixed points."""
