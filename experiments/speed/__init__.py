"""How fast jaxrnn is, beside other recurrent networks and beside the matrix products that any of them must do."""
