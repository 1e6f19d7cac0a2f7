"""The one exception for what a user can mend."""


class UserError(Exception):
    """A mistake in what the user gave: the message names file, entry and mend in one line.

    The tools print the message without a traceback and end with exit code 2.
    """
