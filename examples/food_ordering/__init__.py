"""Food ordering: a small delivery company on streamstate, from the orders topic to the driver's doorstep."""
