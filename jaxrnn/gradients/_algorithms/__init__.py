"""The algorithms, one a file: equations, source, options, checks, over a sequence and on a stream."""
