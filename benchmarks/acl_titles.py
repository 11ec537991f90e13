"""Titles of real authors: trains the small title writer on background papers and says how well it writes.

    python benchmarks/acl_titles.py train OUT     # an hour of one core
    python benchmarks/acl_titles.py check OUT     # ROUGE-L of samples for papers that it has not seen

The data lie in ../shared/data/acl_titles, or where --data says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from acl_corpus import TITLE, read_papers, title_corpus, training_corpora
from bestfor.lm.chat import messages
from bestfor.metrics.base import Query
from bestfor.metrics.overlap import Overlap
from bestfor.policies.base import Prompt
from bestfor.policies.finetune import finetune
from bestfor.policies.finetune.settings import Finetune, Size
from bestfor.policies.transformers import TransformersPolicy

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "acl_titles"
SIZE = Size(vocabulary=5000, hidden=192, layers=4, heads=3, kv_heads=3, intermediate=448, positions=2048, uncased=True)

app = typer.Typer(add_completion=False)
Data = Annotated[Path, typer.Option(help="Folder of background_papers.jsonl.gz.")]


@app.command()
def train(
    out: Path,
    data: Data = DATA,
    steps: int = 1300,
    until: Annotated[int | None, typer.Option(help="Pause after so many steps; called again, it goes on.")] = None,
    rounds: int = 4,
    seed: int = 0,
    rate: float = 4e-3,
    context: Annotated[float, typer.Option(help="Weight of the abstracts in the loss.")] = 0.25,
    init: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
) -> None:
    """Train the title writer, from scratch or further; killed, it goes on where it was."""
    papers, held = read_papers(data / "background_papers.jsonl.gz")
    config = Finetune(
        out,
        seed=seed,
        init=init,
        steps=steps,
        until=until,
        tokens=4096,
        items=3,
        limit=800,
        rate=rate,
        save_every=100,
        held_out=0.0,
        context=context,
        hide=0.05,
        optimizer="muon",
        average=0.99,
        precision="bfloat16",
        size=SIZE,
    )
    corpora = training_corpora(papers, rounds, seed=seed)
    command = " ".join(["python benchmarks/acl_titles.py", *sys.argv[1:]])
    finetune(config, corpora, tests=[title_corpus(held)], console=Console(stderr=True), command=command)


@app.command()
def check(
    model: Path, data: Data = DATA, n: int = 30, temperature: float = 1.0, top_p: float = 1.0, count: int = 200
) -> None:
    """ROUGE-L of samples for held-out background papers: mean, and the best of n."""
    _, held = read_papers(data / "background_papers.jsonl.gz")
    held = held[:count]
    policy = TransformersPolicy(model, temperature=temperature, top_p=top_p, max_new_tokens=32)
    prompts = [Prompt(f"{i:04d}", tuple(messages(TITLE, (), paper.abstract))) for i, paper in enumerate(held)]
    written = policy.sample(prompts, n, seed=0)
    metric = Overlap("rougeL")
    scores = np.array(
        [
            metric.measure(Query("", "", paper.abstract, paper.title), [one.text for one in row])
            for paper, row in zip(held, written, strict=True)
        ]
    )
    print(f"{model.name}: temperature {temperature}, top_p {top_p}, {len(held)} papers, {n} samples")
    print(f"mean ROUGE-L {scores.mean():.3f}, best of {n} {scores.max(axis=1).mean():.3f}")
    for paper, row, value in list(zip(held, written, scores, strict=True))[:4]:
        best = int(value.argmax())
        print(f"- {paper.title}\n    {row[0].text}\n    {row[best].text} ({value[best]:.2f})")


if __name__ == "__main__":
    app()
