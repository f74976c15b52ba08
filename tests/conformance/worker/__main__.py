"""Runs inside the overlay's interpreter.

    python -m _conformance list  ANSWER MODULE...             test classes, as JSON in ANSWER
    python -m _conformance probe ANSWER PACKAGE               what PACKAGE offers, as JSON
    python -m _conformance run   EVENTS MODULE CLASS TESTS    runs tests; JSON lines in EVENTS

It is started with -m so that `__main__.__spec__.name` ends in `.__main__`: spawn and
forkserver children then do not import it again (as with `python -m test`).
"""

import sys


def main() -> None:
    """Do what the command line says."""
    command, *arguments = sys.argv[1:]
    sys.argv[1:] = []
    if command == "list":
        from _conformance import listing

        listing.write(arguments[0], arguments[1:])
    elif command == "probe":
        from _conformance import probe

        probe.write(*arguments)
    elif command == "run":
        from _conformance import running

        running.run(*arguments)


if __name__ == "__main__":
    main()
