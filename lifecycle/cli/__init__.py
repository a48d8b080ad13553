"""The command `lifecycle`: each verb's module is imported when the verb runs."""
