"""Tell handwritten digits apart with a recurrent network that reads them row by row or pixel by pixel."""
