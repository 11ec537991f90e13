"""Run the command line of fine-tuning: ``python -m bestfor.policies.finetune``."""

import typer

from bestfor.policies.finetune.fit import main

if __name__ == "__main__":
    typer.run(main)
