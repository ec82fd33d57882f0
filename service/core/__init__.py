"""What the API and the worker share: settings, errors, database, storage, job rows. No FastAPI, no torch."""
