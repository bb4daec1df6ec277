from lymphoml.core.signals import install_signal_handlers

install_signal_handlers("give the same command again")

from lymphoml.cli.main import main

main()
