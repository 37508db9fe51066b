"""What all rings share: the real servers' fixtures, and how hypothesis searches."""

from hypothesis import settings

pytest_plugins = ["hitcounter_devstack.pytest_plugin"]

# No deadline: a busy machine is not a fault of the code. No database: a failure prints what repeats it.
settings.register_profile("house", deadline=None, database=None, print_blob=True)
settings.load_profile("house")
