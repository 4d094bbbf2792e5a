"""How gradients fare over time: what they are made of, why they vanish or explode, and what follows for learning."""
