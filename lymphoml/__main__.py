from lymphoml.core.signals import stop_on_signals

stop_on_signals("give the same command again")

from lymphoml.cli.main import main

main()
