"""Programs of others in small: what uses `multiprocessing` out there, the way it does."""
