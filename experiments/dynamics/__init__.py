"""What becomes of small changes in recurrent networks, over gain and over training; fixed points; remedies."""
