"""What carries the influence ∂s_t/∂θ forward in time."""
