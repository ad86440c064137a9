import segments  # noqa: F401 - it hides what redis-py would import
