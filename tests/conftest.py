"""What all levels share: the real servers' fixtures, and how hypothesis searches."""

from hypothesis import settings

pytest_plugins = ["hitcounter_devstack.pytest_plugin"]

# No deadline: a busy machine is not a fault of the code. No database: a failure prints what repeats it.
settings.register_profile("house", deadline=None, database=None, print_blob=True)
settings.load_profile("house")
# By hand, for hours if you like: pytest --hypothesis-profile=long
settings.register_profile("long", parent=settings.get_profile("house"), max_examples=2000)
