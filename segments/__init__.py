from segments.runtime import unwanted_imports

unwanted_imports.hide()  # here, because it must come before any import of redis-py
