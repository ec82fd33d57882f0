"""Pretraining and probes (PyTorch), and the worker that runs them as jobs (Celery)."""
