"""A character language model: train on any text, sample from it, evaluate it."""
