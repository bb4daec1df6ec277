"""Cross-validate one configuration: `python train.py key=value ...`, `-m` for a sweep of them."""

from lymphoml.core.signals import install_signal_handlers

if __name__ == "__main__":  # before anything slow
    install_signal_handlers("rerun the same command to resume from the last finished epoch")

    from lymphoml.cli.train import main

    main()
