from lymphoml.core.signals import install_signal_handlers

install_signal_handlers("rerun the same command")

from lymphoml.cli.main import main

main()
