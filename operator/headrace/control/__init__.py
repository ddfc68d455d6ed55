"""The control plane: handlers → workqueue → reconcile (observe → desired → plan → apply → status)."""
