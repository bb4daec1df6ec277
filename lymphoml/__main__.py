from lymphoml.cli import main

main()
