"""The console: a page that shows at a glance how a stack is. It asks Prometheus and container-exporter, and nobody else."""
