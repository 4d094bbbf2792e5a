"""What becomes of small changes in recurrent networks: exponents against gain and over training, fixed points, remedies."""
