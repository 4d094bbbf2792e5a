"""What all other rooms stand on: the interface of a cell, checks, numerics, time and masks."""
