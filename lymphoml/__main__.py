"""`python -m lymphoml COMMAND`, and `lymphoml COMMAND` of an installed package."""

from lymphoml.core.signals import install_signal_handlers


def main() -> None:
    install_signal_handlers("rerun the same command")  # before anything slow

    from lymphoml.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
