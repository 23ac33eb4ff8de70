"""Exports what the engine and the load balancers know of the containers of a Compose project as Prometheus metrics."""
