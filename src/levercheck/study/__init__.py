"""The study file, its plan and its locks. Never imports a model runtime."""
