"""Forecast a sine wave, or a person's own series, with a small recurrent network."""
