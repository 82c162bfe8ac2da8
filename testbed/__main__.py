"""`python -m testbed`."""

import sys

# With -m the current folder comes first in the path: what a user has there, such as yaml.py or random.py, is not meant.
# This package has been found already, and looks for its own parts beside this file.
if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from testbed.cli import main

main()
