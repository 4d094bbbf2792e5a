"""Running a cell over a sequence."""
