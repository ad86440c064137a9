import segments  # noqa: F401 - it hides modules that redis-py would import
