"""The command hitcounter-operator: settings to objects, objects to loops. The only place where they are wired."""

from __future__ import annotations


def main() -> None:
    """Run the command."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
