"""Programs that use jaxrnn, one folder each: `python -m experiments.NAME --help`."""
