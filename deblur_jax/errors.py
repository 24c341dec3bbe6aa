"""The one exception that a user's mistake raises. The command line prints it as one line."""


class UserError(Exception):
    """Says what is wrong, where, and what to do about it, in one line."""
