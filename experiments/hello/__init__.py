"""Teach a recurrent network to read one word and spell another: hello -> ohlol."""
