from lymphoml.stopping import stop_on_signals

stop_on_signals("give the same command again")

from lymphoml.cli import main

main()
