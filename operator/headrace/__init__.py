"""Headrace: AWS Lambda's event source mappings for any container, on any Kubernetes cluster."""

__version__ = "0.1.0"
