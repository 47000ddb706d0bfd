"""``kubectl_complete-backstay``: what kubectl runs to complete ``kubectl backstay …``."""

import io
import os
import shlex
import sys
from contextlib import redirect_stdout

from backstay.cli.__main__ import app

# In the protocol of kubectl's shell completion: do not go on with the names of files.
_NO_FILES = ":4"


def main() -> None:
    """Print the completions of the last argument, one a line, and the directive that ends them."""
    words = ["backstay", *sys.argv[1:]]
    os.environ.update(COMP_WORDS=shlex.join(words), COMP_CWORD=str(len(words) - 1), _BACKSTAY_COMPLETE="complete_bash")
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            app(prog_name="backstay")
    finally:
        sys.stdout.write("\n".join([*answer.getvalue().split(), f"{_NO_FILES}\n"]))
